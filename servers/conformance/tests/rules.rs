//! Rules about dependencies, and that `benches/servers.toml` lists exactly the servers of this repository.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use subject::catalogue::Catalogue;

use crate::trial;

pub(crate) fn trials(catalogue: &Catalogue) -> Vec<Trial> {
    let root = catalogue.root.clone();
    // The rules hold for the floor too, which is not an architecture.
    let ours = catalogue.servers.iter().filter(|server| !server.reference);
    let listed: BTreeSet<String> = ours.map(|server| server.name.clone()).collect();
    let there = root.clone();
    vec![
        trial("rules::who may know whom".to_owned(), move || {
            who_may_know_whom(&root)
        }),
        trial(
            "rules::every server is listed, and no other".to_owned(),
            move || {
                let there = architectures(&there)?;
                ensure!(
                    listed == there,
                    "benches/servers.toml has {listed:?}, servers/ has {there:?}"
                );
                Ok(())
            },
        ),
    ]
}

/// The folders of `servers/` with a `src/main.rs`.
fn architectures(root: &Path) -> Result<BTreeSet<String>> {
    let folders = fs::read_dir(root.join("servers"))?;
    let folders: Vec<PathBuf> = folders
        .map(|folder| Ok(folder?.path()))
        .collect::<Result<_>>()?;
    let programs = folders
        .iter()
        .filter(|folder| folder.join("src/main.rs").is_file());
    Ok(programs
        .filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned()))
        .collect())
}

fn who_may_know_whom(root: &Path) -> Result<()> {
    let packages = packages(root)?;
    let of = |name: &str| {
        packages
            .get(name)
            .with_context(|| format!("no package {name}"))
    };
    let architectures = architectures(root)?;
    for name in &architectures {
        let others = of(name)?
            .iter()
            .filter(|known| !["http1", "host", "memchr", "slab"].contains(&known.as_str()));
        let others: Vec<&String> = others.collect();
        ensure!(
            others.len() <= 1,
            "{name} knows {others:?}: at most one I/O or threading library"
        );
        let ours = others.iter().find(|known| packages.contains_key(**known));
        ensure!(ours.is_none(), "{name} knows {ours:?}");
    }
    let knows_none_of = |name: &str, strangers: &[&str]| -> Result<()> {
        let known = of(name)?;
        let acquaintance = strangers.iter().find(|&&stranger| known.contains(stranger));
        ensure!(acquaintance.is_none(), "{name} knows {acquaintance:?}");
        Ok(())
    };
    let servers: Vec<&str> = architectures.iter().map(String::as_str).collect();
    let all: Vec<&str> = packages.keys().map(String::as_str).collect();
    knows_none_of("host", &servers)?;
    knows_none_of(
        "host",
        &[
            "engine",
            "subject",
            "lab",
            "trace",
            "report",
            "loadgen",
            "benches",
            "conformance",
            "soak",
        ],
    )?;
    knows_none_of("host", &["mio", "rayon", "tokio"])?;
    knows_none_of("http1", &all)?;
    knows_none_of(
        "http1",
        &["mio", "nix", "rayon", "rustix", "socket2", "tokio"],
    )?;
    // The generator and the laboratory reach servers as processes: they share no code with them.
    for name in ["engine", "subject", "lab", "trace", "report", "loadgen"] {
        knows_none_of(name, &servers)?;
        knows_none_of(
            name,
            &[
                "http1",
                "host",
                "httparse",
                "benches",
                "conformance",
                "soak",
            ],
        )?;
    }
    knows_none_of("soak", &servers)?;
    knows_none_of("soak", &["http1", "host", "httparse", "conformance"])?;
    Ok(())
}

/// The packages of the workspace, each with its dependencies other than those of tests.
fn packages(root: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("packages")?;
    let package = |package: &Value| {
        let dependencies = package["dependencies"].as_array()?.iter();
        let known = dependencies
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| Some(dependency["name"].as_str()?.to_owned()));
        Some((package["name"].as_str()?.to_owned(), known.collect()))
    };
    packages
        .iter()
        .map(|p| package(p).context("a package"))
        .collect()
}
