//! Verdicts on servers and generators that stand still, are too slow, or share their CPU: as seen from outside. What a
//! machine that is busy with something else can spoil is tried up to three times.

mod skipped;
mod truth;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use engine::affinity::{own_cpus, pin_thread};
use engine::drive;
use engine::plan::{ConnectionLife, Limit, Pace, Plan};
use engine::record::Outcome;
use engine::verdict::{Status, Verdict, judge};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use skipped::skipped;
use truth::against::{attempts, constant, lasting, poisson, run};
use truth::answer::Fault;
use truth::delay::{Delay, Stall};
use truth::{Options, Server, Serves};

const MS: Duration = Duration::from_millis(1);

/// Only one of these tests runs at a time: each would be others' load.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn judged(options: Options, plan: impl FnOnce(Plan) -> Plan) -> (Outcome, Verdict) {
    let (plan, outcome, _) = run(options, plan);
    let verdict = judge(&plan, &outcome);
    (outcome, verdict)
}

/// A server that answers at once, and then nothing for so long at the end of every so much time.
fn stalls(lasts: u32, every: u32) -> Options {
    Options {
        stall: Some(Stall {
            lasts: lasts * MS,
            every: every * MS,
        }),
        ..Options::default()
    }
}

#[test]
fn a_server_that_stands_still_is_not_believed() {
    let _alone = alone();
    for (pace, threads) in [
        (Pace::Closed, 1),
        (Pace::Closed, 2),
        (constant(2_000.0), 1),
        (poisson(2_000.0), 2),
        (constant(20.0), 1),
    ] {
        // To the end of the run, and for a part in its middle.
        for (lasts, every, run_ms, least, most) in [
            (9_500, 10_000, 1_500, 0.5, 0.7),
            (800, 1_200, 1_600, 0.4, 0.6),
        ] {
            let (outcome, verdict) = judged(stalls(lasts, every), |plan| Plan {
                pace,
                threads,
                connections: 8,
                limit: lasting(run_ms),
                drain: 100 * MS,
                ..plan
            });
            let context = format!("{pace} {threads} {lasts}: {verdict:?}");
            assert_eq!(verdict.status, Status::Invalid, "{context}");
            let reasons = verdict.reasons.join("; ");
            assert!(reasons.contains("the server stood still"), "{context}");
            let silences = outcome.record.silences.expect("threads have run");
            let share = silences.longest_ns() as f64 / (run_ms as f64 * 1e6);
            // It begins when it begins, whatever else goes on: a busy machine makes it no shorter.
            assert!(share > least, "{share} {context}");
            assert!(share < most + 0.4, "{share} {context}");
        }
    }
}

/// As with a CPU quota, which no percentile of a closed loop need show.
#[test]
fn a_server_that_stops_and_goes_is_not_believed() {
    let _alone = alone();
    attempts("stop and go", |_| {
        let (_, verdict) = judged(stalls(90, 190), |plan| Plan {
            connections: 2,
            limit: lasting(1_600),
            ..plan
        });
        let reasons = verdict.reasons.join("; ");
        ensure!(verdict.status == Status::Invalid, "{verdict:?}");
        ensure!(reasons.contains("the server stood still"), "{verdict:?}");
        Ok(())
    });
}

/// No request takes 15% of the run, nor do the timeouts make a hundredth of the requests.
#[test]
fn requests_that_hang_until_they_time_out_are_not_forgotten() {
    let _alone = alone();
    let options = Options {
        faults: vec![Fault::Hang],
        fault_every: 1_500,
        ..Options::default()
    };
    attempts("timeouts", |_| {
        let (outcome, verdict) = judged(options.clone(), |plan| Plan {
            connections: 8,
            limit: lasting(3_000),
            timeout: 250 * MS,
            ..plan
        });
        let timeouts = outcome.record.errors_count();
        ensure!(timeouts > 8, "{timeouts} timeouts");
        let reasons = verdict.reasons.join("; ");
        let said = ["connections stood still", "the server stood still"];
        let is_said = said.iter().any(|words| reasons.contains(words));
        ensure!(is_said, "{timeouts} timeouts: {verdict:?}");
        Ok(())
    });
}

/// None of these stands still: it is their nature, or that of the load.
#[test]
fn slow_servers_and_thin_loads_are_no_standstill() {
    let _alone = alone();
    let delayed = |ms: u32| Options {
        delay: Delay::Fixed(ms * MS),
        ..Options::default()
    };
    let rows: [(&str, Options, Pace, usize, u64); 11] = [
        (
            "one connection, fifty milliseconds each",
            delayed(50),
            Pace::Closed,
            1,
            1_500,
        ),
        (
            "many in step, fifty milliseconds each",
            delayed(50),
            Pace::Closed,
            16,
            1_500,
        ),
        (
            "some take a while",
            Options {
                delay: Delay::Bimodal(MS, 100 * MS, 0.3),
                ..Options::default()
            },
            Pace::Closed,
            4,
            2_000,
        ),
        (
            "one connection, half a second each",
            delayed(500),
            Pace::Closed,
            1,
            2_200,
        ),
        ("many in step", delayed(500), Pace::Closed, 32, 2_200),
        ("one request a second", delayed(1), constant(1.0), 4, 3_000),
        (
            "three at random a second",
            delayed(1),
            poisson(3.0),
            4,
            3_000,
        ),
        ("slow and seldom", delayed(400), poisson(4.0), 8, 3_000),
        ("short", delayed(1), Pace::Closed, 4, 50),
        (
            "some take long",
            Options {
                delay: Delay::Bimodal(MS, 500 * MS, 0.3),
                ..Options::default()
            },
            Pace::Closed,
            2,
            3_000,
        ),
        (
            "two hundred milliseconds of a second",
            stalls(200, 1_000),
            constant(1_000.0),
            64,
            3_000,
        ),
    ];
    for (name, options, pace, connections, ms) in rows {
        attempts(name, |_| {
            let (_, verdict) = judged(options.clone(), |plan| Plan {
                pace,
                connections,
                seed: 5,
                limit: lasting(ms),
                ..plan
            });
            let reasons = verdict.reasons.join("; ");
            for wrong in ["stood still", "not answered", "starved"] {
                ensure!(!reasons.contains(wrong), "{reasons}");
            }
            Ok(())
        });
    }
}

#[test]
fn requests_that_hang_are_not_forgotten() {
    let _alone = alone();
    for pace in [Pace::Closed, constant(2_000.0)] {
        let options = Options {
            faults: vec![Fault::Hang],
            fault_every: 400,
            delay: Delay::Fixed(MS),
            ..Options::default()
        };
        let (outcome, verdict) = judged(options, |plan| Plan {
            pace,
            connections: 64,
            limit: lasting(1_200),
            drain: 100 * MS,
            timeout: Duration::from_secs(60),
            ..plan
        });
        assert_eq!(verdict.status, Status::Invalid, "{verdict:?}");
        assert!(outcome.record.counts.in_flight_at_end > 0);
        let reasons = verdict.reasons.join("; ");
        let said = reasons.contains("not answered") || reasons.contains("stood still");
        assert!(said, "{pace}: {verdict:?}");
    }
    // Some are never served at all, in open loop too.
    let options = Options {
        serves: Serves::FirstAndAccepts(2),
        delay: Delay::Fixed(10 * MS),
        ..Options::default()
    };
    let (_, verdict) = judged(options, |plan| Plan {
        pace: constant(400.0),
        connections: 8,
        limit: lasting(1_000),
        drain: 100 * MS,
        ..plan
    });
    let reasons = verdict.reasons.join("; ");
    assert!(reasons.contains("not answered"), "{verdict:?}");
}

#[test]
fn an_overloaded_server_gets_the_rate_that_it_has() {
    let _alone = alone();
    let options = Options {
        delay: Delay::Fixed(5 * MS),
        ..Options::default()
    };
    // One after another, 200 each second at the most: the warm-up alone takes it ten times as long.
    let (plan, outcome, truth) = run(options, |plan| Plan {
        connections: 1,
        pace: constant(2_000.0),
        warmup: 1_000 * MS,
        limit: lasting(1_000),
        drain: 100 * MS,
        ..plan
    });
    let record = &outcome.record;
    assert_eq!(
        record.counts.answered_of_warmup,
        record.counts.answered_in_window
    );
    assert!(
        record.counts.answered_in_window > 20,
        "{}",
        record.counts.answered_in_window
    );
    assert!(
        record.counts.answered_in_window <= 201,
        "{}",
        record.counts.answered_in_window
    );
    let all = record.counts.warmup_responses + record.counts.answered_in_window;
    assert!(all <= truth.responses, "{all} of {}", truth.responses);
    let verdict = judge(&plan, &outcome);
    assert_eq!(verdict.status, Status::Invalid);
    let rate = format!(
        "the rate was missed: {} of 2,000",
        record.counts.answered_in_window
    );
    assert!(verdict.reasons[0].starts_with(&rate), "{verdict:?}");
}

#[test]
fn a_few_requests_are_valid_when_all_of_them_are_right() {
    let _alone = alone();
    for (requests, connections, life) in
        [(1, 1, 0), (1, 64, 0), (5, 10, 0), (200, 4, 0), (200, 64, 1)]
    {
        for pace in [Pace::Closed, constant(2_000.0), poisson(2_000.0)] {
            let name = format!("{requests} requests, {connections} connections, {pace}");
            attempts(&name, |_| {
                let (outcome, verdict) = judged(Options::default(), |plan| Plan {
                    connections,
                    pace,
                    life: ConnectionLife::from_requests(life),
                    limit: Limit::Requests(requests),
                    ..plan
                });
                assert_eq!(outcome.record.counts.good, requests, "{name}");
                assert_eq!(verdict.notes.len(), 1, "{name}: {verdict:?}");
                let is_valid = verdict.status == Status::Valid;
                ensure!(is_valid, "{}", verdict.reasons.join("; "));
                Ok(())
            });
        }
    }
}

/// Ended right behind the warm-up, before a CPU share or a rate means anything.
#[test]
fn a_time_that_is_too_short_has_no_figures() {
    let _alone = alone();
    let server = Server::start(Options::default()).unwrap();
    let plan = Plan {
        connections: 1,
        warmup: 50 * MS,
        limit: lasting(60_000),
        ..Plan::new(
            server.address(),
            b"GET / HTTP/1.1\r\nHost: test\r\n\r\n".to_vec(),
        )
    };
    attempts("ended behind the warm-up", |_| {
        // It is looked at when the warm-up is just over.
        let interrupted = AtomicBool::new(true);
        let outcome = drive::run(&plan, &interrupted).unwrap();
        assert!(outcome.interrupted);
        let verdict = judge(&plan, &outcome);
        ensure!(outcome.is_cut_short(), "it took {:?}", outcome.duration);
        assert_eq!(outcome.client.busiest_thread, None);
        assert_eq!(verdict.status, Status::Invalid);
        assert!(verdict.reasons[0].starts_with("ended "), "{verdict:?}");
        assert_eq!(verdict.reasons.len(), 1);
        Ok(())
    });
    server.stop();
}

/// `loadgen run` against a server, with its report on standard output.
fn loadgen(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .args([
            "run",
            &format!("http://{}/", server.address()),
            "--json",
            "-",
        ])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("it writes its report")
}

fn reasons(report: &Value) -> String {
    let reasons = report["verdict"]["reasons"].as_array().unwrap();
    let reasons = reasons.iter().filter_map(Value::as_str);
    reasons.collect::<Vec<_>>().join("; ")
}

#[test]
fn ended_in_the_warm_up_nothing_counts() {
    let _alone = alone();
    for how in [Signal::SIGINT, Signal::SIGTERM] {
        let server = Server::start(Options::default()).unwrap();
        let child = loadgen(&server, &["-r", "100", "--warmup", "60s"])
            .spawn()
            .unwrap();
        // However long it takes to start: it hears signals before it sends anything.
        while fs::read_to_string(format!("/proc/{}/net/tcp", child.id()))
            .is_ok_and(|text| !has_established(&text, server.address().port()))
        {
            thread::sleep(5 * MS);
        }
        signal(&child, how);
        let output = child.wait_with_output().unwrap();
        let truth = server.stop();
        let report = report(&output);
        assert_eq!(output.status.code(), Some(1), "{how}");
        let reasons = reasons(&report);
        let answered = report["warmup_responses"].as_u64().unwrap();
        assert!(answered <= truth.responses);
        let said = "ended before the 60.0 s warm-up was over, so nothing counts";
        assert!(reasons.starts_with(said), "{reasons}");
        assert!(
            reasons.contains(&format!("{answered} request")),
            "{reasons}"
        );
        for absent in ["requests_per_s", "connections_per_s"] {
            assert_eq!(report[absent], Value::Null, "{absent}");
        }
        assert_eq!(report["client"]["busiest_thread"], Value::Null);
        let latencies = report["latency_us"].as_object().unwrap();
        assert!(latencies.values().all(Value::is_null), "{latencies:?}");
    }
}

/// Whether `/proc/net/tcp` lists an established connection to this port.
fn has_established(tcp: &str, port: u16) -> bool {
    let remote = format!(":{port:04X}");
    tcp.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let is_there = fields.next().is_some_and(|it| it.ends_with(&remote));
        is_there && fields.next() == Some("01")
    })
}

#[test]
fn a_generator_that_was_stopped_says_so() {
    let _alone = alone();
    for pace in [&[][..], &["-r", "2000"], &["-r", "50", "-t", "2"]] {
        attempts("stopped", |_| {
            let server = Server::start(Options::default()).unwrap();
            let arguments = [&["-d", "3s", "--warmup", "0", "-c", "8"][..], pace].concat();
            let child = loadgen(&server, &arguments).spawn().unwrap();
            thread::sleep(1_000 * MS);
            signal(&child, Signal::SIGSTOP);
            thread::sleep(1_500 * MS);
            signal(&child, Signal::SIGCONT);
            let report = report(&child.wait_with_output().unwrap());
            server.stop();
            let reasons = reasons(&report);
            ensure!(
                reasons.contains("the generator stood still"),
                "{pace:?}: {reasons}"
            );
            ensure!(
                !reasons.contains("the server stood still"),
                "{pace:?}: {reasons}"
            );
            let stopped_s = report["client"]["stopped_s"].as_f64().unwrap();
            ensure!((1.0..2.0).contains(&stopped_s), "{pace:?}: {stopped_s} s");
            Ok(())
        });
    }
}

#[test]
fn a_generator_that_shares_its_cpu_is_bound_by_it() {
    let _alone = alone();
    let cpus = own_cpus();
    let Some(&cpu) = cpus.last() else {
        return skipped("a_generator_that_shares_its_cpu_is_bound_by_it: CPUs are not told");
    };
    if !fs::read_to_string("/proc/thread-self/schedstat").is_ok_and(|text| !text.starts_with("0 0"))
    {
        return skipped("a_generator_that_shares_its_cpu_is_bound_by_it: no schedstat");
    }
    let stop = Arc::new(AtomicBool::new(false));
    let busy = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            pin_thread(&[cpu]).unwrap();
            while !stop.load(Relaxed) {
                std::hint::spin_loop();
            }
        }
    });
    attempts("a shared CPU", |_| {
        let server = Server::start(Options::default()).unwrap();
        let cpu = cpu.to_string();
        let arguments = [
            "-d",
            "1500ms",
            "--warmup",
            "100ms",
            "-c",
            "16",
            "--pin-client",
            &cpu,
        ];
        let report = report(&loadgen(&server, &arguments).output().unwrap());
        server.stop();
        let status = report["verdict"]["status"].as_str().unwrap();
        let reasons = reasons(&report);
        ensure!(status != "valid", "{}", report["client"]);
        ensure!(reasons.contains("waited for a CPU"), "{status}: {reasons}");
        let others = report["client"]["cpus_used_by_others"].as_f64().unwrap();
        ensure!(others > 0.1, "{others}");
        let delay_s = report["client"]["run_delay_s"].as_f64().unwrap();
        ensure!(delay_s > 0.15, "{delay_s}");
        Ok(())
    });
    stop.store(true, Relaxed);
    busy.join().unwrap();
}

/// A control group with a CPU quota, which is removed in the end.
struct Quota(PathBuf);

impl Quota {
    /// Of so many percent of a CPU, by whichever version this machine has.
    fn new(percent: u32) -> io::Result<Self> {
        let name = format!("loadgen-test-{}", std::process::id());
        let quota_us = percent * 1_000;
        let one = Path::new("/sys/fs/cgroup/cpu").join(&name);
        if fs::create_dir(&one).is_ok() {
            let group = Quota(one);
            fs::write(group.0.join("cpu.cfs_period_us"), "100000")?;
            fs::write(group.0.join("cpu.cfs_quota_us"), quota_us.to_string())?;
            return Ok(group);
        }
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu")?;
        let two = Path::new("/sys/fs/cgroup").join(&name);
        fs::create_dir(&two)?;
        let group = Quota(two);
        fs::write(group.0.join("cpu.max"), format!("{quota_us} 100000"))?;
        Ok(group)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // It cannot be removed while somebody is in it.
        fs::remove_dir(&self.0).unwrap_or_default();
    }
}

#[test]
fn a_cpu_quota_is_named() {
    let _alone = alone();
    // So little that the generator uses it up on a machine that is busy with something else too.
    let quota = match Quota::new(3) {
        Ok(quota) => quota,
        Err(error) => {
            return skipped(format_args!(
                "a_cpu_quota_is_named: no control group: {error}"
            ));
        }
    };
    attempts("a quota", |_| {
        let server = Server::start(Options::default()).unwrap();
        let loadgen = loadgen(&server, &["-d", "2s", "--warmup", "0", "-c", "16"]);
        let mut within = Command::new("sh");
        within
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(quota.0.join("cgroup.procs"))
            .arg(loadgen.get_program())
            .args(loadgen.get_args())
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let report = report(&within.output().unwrap());
        server.stop();
        let client = &report["client"];
        assert_eq!(client["cpu_quota"], 0.03, "{client}");
        ensure!(client["throttled_times"].as_u64() > Some(3), "{client}");
        let reasons = reasons(&report);
        let said = reasons.contains("a quota of 0.03 CPUs stopped the generator's control group");
        ensure!(said, "{reasons}: {client}");
        assert_ne!(report["verdict"]["status"], "valid");
        Ok(())
    });
}
