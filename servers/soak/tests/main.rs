//! The soak must report every fault by name, on servers with one fault each, and must pass the same server without
//! a fault and one of ours.
//!
//! The faulty server is this test program itself, started as `PROGRAM serve FAULT ...`.

mod faulty;

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use subject::catalogue::{Catalogue, Server, Serves};

use faulty::Fault;

/// Each fault, and the start of the failure that the soak must report; empty if the server must pass.
const ROWS: [(Fault, &str); 16] = [
    (Fault::Nothing, ""),
    (Fault::WrongByte, "peers: keep-alive: wrong answer "),
    (Fault::LeaksDescriptors, "descriptors: "),
    (Fault::LeaksMemory, "memory: RssAnon grew by "),
    (Fault::LeaksThreads, "threads: "),
    (Fault::ResetsHalfClosed, "peers: half-close: reset "),
    (Fault::ClosesUnstaged, "peers: malformed: reset "),
    (Fault::KeepsSlowPeers, "peers: silent: not dropped "),
    (Fault::OneAtATime, ""),
    (Fault::Spins, "quiet: "),
    (Fault::Dies, "death: it was ended by SIGABRT"),
    (
        Fault::DiesAfterQuiet,
        "death: it was ended by SIGABRT under load",
    ),
    (Fault::Miscounts, "counters: requests 1, but peers saw "),
    (Fault::DropsAtStop, "peers: keep-alive: early end "),
    (Fault::StaysAtStop, "stop: still there "),
    (Fault::ExitsWithOne, "stop: exit status 1 after SIGTERM"),
];

fn main() -> Result<ExitCode> {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() == Some("serve") {
        return Ok(faulty::main(arguments)?);
    }
    let mut arguments = Arguments::from_args();
    // The trials wait most of the time.
    arguments.test_threads.get_or_insert(ROWS.len());
    let mut trials: Vec<Trial> = ROWS
        .into_iter()
        .map(|(fault, told)| trial(&fault.name(), move || is_told(fault, told)))
        .collect();
    trials.push(trial("one of ours passes", one_of_ours_passes));
    trials.push(trial("who serves few at a time", who_serves_few_at_a_time));
    trials.push(trial("wrong command lines", wrong_command_lines));
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn trial(name: &str, body: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, || body().map_err(|error| format!("{error:#}").into()))
}

fn is_told(fault: Fault, told: &str) -> Result<()> {
    let name = fault.name();
    let root = tempfile::tempdir()?;
    let benches = root.path().join("benches");
    fs::create_dir(&benches)?;
    let program = env::current_exe()?;
    let server = format!(
        "[[server]]\nname = '{name}'\nabout = 'faulty'\n\
         run = ['{}', 'serve', '{name}', '--listen', '{{addr}}']\n",
        program.display()
    );
    fs::write(benches.join("servers.toml"), server)?;
    let workload = "[[workload]]\nname = 'any'\nconnections = 1\nduration = '1s'\n";
    fs::write(benches.join("workloads.toml"), workload)?;
    let limits = [
        ["--time", "3s"],
        ["--connections", "80"],
        ["--rate", "300"],
        ["--idle-timeout", "1s"],
        ["--header-timeout", "1s"],
        ["--grace", "2s"],
    ];
    // This fault is visible only after the peers' patience is over.
    let arguments = match fault {
        Fault::KeepsSlowPeers => ["--patience", "500ms", "--only", "silent,keep-alive"].as_slice(),
        _ => &["--patience", "5s"],
    };
    let outcome = soak(root.path(), &[limits.as_flattened(), arguments].concat())?;
    let failures = &outcome.json["servers"][0]["failures"];
    let failures: Vec<&str> = (failures.as_array().context("failures")?.iter())
        .filter_map(Value::as_str)
        .collect();
    if told.is_empty() {
        ensure!(
            outcome.status == 0,
            "a right server fails: {}",
            outcome.table
        );
        ensure!(outcome.table.contains(&format!("passed: {name}")));
    } else {
        let found = failures.iter().any(|failure| failure.starts_with(told));
        ensure!(found, "{told:?} is not told: {}", outcome.table);
        ensure!(outcome.status == 1, "status {}", outcome.status);
        ensure!(outcome.table.contains(&format!("FAILED: {name}")));
    }
    let starves = outcome.json["servers"][0]["starves"].as_bool();
    let must = fault == Fault::OneAtATime;
    ensure!(starves == Some(must), "starves: {starves:?}");
    Ok(())
}

/// The soak passes a server of ours that serves all at once.
fn one_of_ours_passes() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let servers = ours()?;
    let is_suitable =
        |server: &&Server| server.serves == Serves::All && !server.thread_per_connection;
    let server = servers.iter().find(is_suitable);
    let name = &*server.context("no such server")?.name;
    let arguments = [name, "--time", "6s", "--connections", "200"];
    let outcome = soak(here, &arguments)?;
    ensure!(outcome.status == 0, "{}", outcome.table);
    let report = &outcome.json["servers"][0];
    ensure!(report["starves"] == false, "it serves all at a time");
    let peers = report["peers"].as_object().context("peers")?;
    ensure!(peers.len() == 20, "not all behaviours: {}", outcome.table);
    let answers = peers.values().map(|of| of["answers"].as_u64());
    let answers: u64 = answers.map(Option::unwrap_or_default).sum();
    ensure!(answers > 1000, "{answers} answers in 6 s");
    Ok(())
}

/// The soak lets peers give up if it finds that the server serves few at a time, so it must find this correctly.
fn who_serves_few_at_a_time() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workers = thread::available_parallelism()?.get();
    let connections = (2 * workers + 20).to_string();
    let arguments = ["--time", "1s", "--rate", "200", "-c", &connections];
    let servers = ours()?;
    let names: Vec<&str> = servers.iter().map(|server| &*server.name).collect();
    let outcome = soak(here, &[&arguments[..], &["--together"], &names].concat())?;
    let reports = outcome.json["servers"].as_array().context("servers")?;
    ensure!(reports.len() == servers.len(), "not all servers");
    for (server, report) in servers.iter().zip(reports) {
        ensure!(report["server"] == *server.name, "another order");
        let starves = report["starves"].as_bool();
        let serves_few = server.serves != Serves::All;
        ensure!(starves == Some(serves_few), "{}: {starves:?}", server.name);
    }
    Ok(())
}

/// Our servers in `benches/servers.toml`.
fn ours() -> Result<Vec<Server>> {
    let mut servers = Catalogue::find(Path::new(env!("CARGO_MANIFEST_DIR")))?.servers;
    servers.retain(Server::is_ours);
    Ok(servers)
}

fn wrong_command_lines() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (arguments, message) in [
        (&["no-such-server"][..], "no server `no-such-server`"),
        (&["--time", "0s"], "longer than zero"),
        (&["--only", "nobody"], "--only list"),
        (&["--connections", "4000000000"], "open files, the limit is"),
        (&["--json", "/no/such/folder/file"], "there is no folder"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_soak"))
            .args(arguments)
            .current_dir(here)
            .stdin(Stdio::null())
            .output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(stderr.contains(message), "{arguments:?}: {stderr}");
        ensure!(output.status.code() == Some(2), "{arguments:?}: {stderr}");
    }
    Ok(())
}

struct Outcome {
    status: i32,
    table: String,
    json: Value,
}

/// The longest that a soak here may take, even on a busy machine.
const SOON: Duration = Duration::from_secs(120);

fn soak(root: &Path, arguments: &[&str]) -> Result<Outcome> {
    let scratch = tempfile::tempdir()?;
    let json = scratch.path().join("json");
    let (stdout, stderr) = (scratch.path().join("out"), scratch.path().join("err"));
    let child = Command::new(env!("CARGO_BIN_EXE_soak"))
        .args(arguments)
        .arg("--json")
        .arg(&json)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(fs::File::create(&stdout)?)
        .stderr(fs::File::create(&stderr)?)
        .spawn()?;
    let status = wait(child)?;
    let json = fs::read(json).with_context(|| {
        let stderr = fs::read_to_string(&stderr).unwrap_or_default();
        format!("status {status}: {stderr}")
    })?;
    Ok(Outcome {
        status,
        table: fs::read_to_string(stdout)?,
        json: serde_json::from_slice(&json)?,
    })
}

fn wait(mut child: Child) -> Result<i32> {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(status) = child.try_wait()? {
            return status.code().context("was killed");
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("a soak that does not end");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
