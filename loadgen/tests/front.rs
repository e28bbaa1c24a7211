//! `loadgen report --splice`: the parts of a front page, of sets that may be of several machines.

mod laboratory;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PAGE: &str = "# A\n\n<!-- loadgen:picture -->\n<!-- loadgen:picture:end -->\nB\n\
                    <!-- loadgen:which-one -->\n<!-- loadgen:which-one:end -->\n\
                    <!-- loadgen:ranks -->\n<!-- loadgen:ranks:end -->\nC\n";

fn report(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .arg("report")
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

/// A folder with the made-up set `results/SET` and a copy of it, which says that it is of another machine.
fn two_machines() -> (tempfile::TempDir, [String; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    fs::create_dir(&results).unwrap();
    let set = laboratory::write_small(&results);
    let name = set.file_name().unwrap().to_str().unwrap();
    let other = results.join("2025-12-31.9");
    fs::create_dir(&other).unwrap();
    for file in fs::read_dir(&set).unwrap() {
        let file: PathBuf = file.unwrap().path();
        fs::copy(&file, other.join(file.file_name().unwrap())).unwrap();
    }
    let machine = other.join("machine.toml");
    let text = fs::read_to_string(&machine).unwrap();
    let model = (text.lines().find(|it| it.starts_with("cpu_model"))).unwrap();
    fs::write(&machine, text.replace(model, "cpu_model = \"Another CPU\"")).unwrap();
    let sets = [format!("results/{name}"), "results/2025-12-31.9".to_owned()];
    (folder, sets)
}

/// The copy was measured at another time.
fn at_another_time(folder: &Path, set: &str) {
    let plan = folder.join(set).join("plan.toml");
    let text = fs::read_to_string(&plan).unwrap();
    let started = (text.lines().find(|it| it.starts_with("started"))).unwrap();
    let another = started.replace("2025", "2024");
    fs::write(&plan, text.replace(started, &another)).unwrap();
}

#[test]
fn a_front_page_of_two_machines() {
    let (folder, [one, other]) = two_machines();
    let folder = folder.path();
    fs::create_dir(folder.join("docs")).unwrap();
    let page = folder.join("docs/PAGE.md");
    fs::write(&page, PAGE).unwrap();
    let args = [&one, &other, "--splice", "docs/PAGE.md"];

    let output = report(folder, &args);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let copy = "results/2025-12-31.9 is a copy of another set, and would count twice";
    assert_eq!(stderr, format!("loadgen: {copy}\n"));
    assert_eq!(fs::read_to_string(&page).unwrap(), PAGE);

    at_another_time(folder, &other);
    let output = report(folder, &args);
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(&page).unwrap();
    let command = format!("Renewed by `loadgen report {one} {other} --splice docs/PAGE.md`.");
    assert_eq!(text.matches(&command).count(), 1, "{text}");
    // Links are as seen from the page.
    assert!(text.contains(&format!("](../{one}/README.md)")), "{text}");
    assert!(text.contains("(pictures/cpu-by-workload.svg)"), "{text}");
    assert!(folder.join("docs/pictures/cpu-by-workload.svg").exists());
    assert!(
        text.contains("| many busy connections that stay open | **"),
        "{text}"
    );
    assert!(text.contains(" | Another CPU |"), "{text}");
    assert!(report(folder, &args).status.success());
    assert_eq!(
        fs::read_to_string(&page).unwrap(),
        text,
        "a second time changes nothing"
    );

    // A file that wants tables as well needs sets that can be combined.
    let tables = format!("{text}<!-- loadgen:begin -->\n<!-- loadgen:end -->\n");
    fs::write(&page, &tables).unwrap();
    let output = report(folder, &args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot be combined"), "{stderr}");
    assert_eq!(fs::read_to_string(&page).unwrap(), tables);
    let output = report(folder, &[&one, "--splice", "docs/PAGE.md"]);
    assert!(output.status.success(), "{output:?}");
    let both = fs::read_to_string(&page).unwrap();
    assert!(both.contains("**CPU microseconds per request") && both.contains("| your situation |"));
    assert!(folder.join("docs/pictures/calls-keep-alive.svg").exists());
}

#[test]
fn half_a_pair_of_markers_is_refused() {
    let (folder, [one, _]) = two_machines();
    let page = folder.path().join("PAGE.md");
    let text = "<!-- loadgen:ranks -->\n";
    fs::write(&page, text).unwrap();
    let output = report(folder.path(), &[&one, "--splice", "PAGE.md"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = "loadgen: PAGE.md: `<!-- loadgen:ranks -->` and `<!-- loadgen:ranks:end -->` must both be there, \
                    in this order\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert_eq!(fs::read_to_string(&page).unwrap(), text);
}
