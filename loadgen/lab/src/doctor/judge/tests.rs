//! Every judgement that can come out, in tables.

use std::collections::BTreeSet;

use super::super::facts::{Lateness, Privileges, Unread, sound};
use super::*;

type Change = fn(&mut Facts);

/// As it comes out on a sound machine of which one thing is different.
fn find(change: Change, check: &str) -> Finding {
    let mut facts = sound();
    change(&mut facts);
    let mut findings = judge(&facts).into_iter();
    let finding = findings.find(|finding| finding.check == check);
    finding.unwrap_or_else(|| panic!("no check {check}"))
}

fn moment(before: &str, after: &str) -> Fact<(CpuTime, CpuTime)> {
    let time = |text: &str| CpuTime::parse(&format!("cpu  {text}")).unwrap();
    Ok((time(before), time(after)))
}

/// CPUs that are online with several threads a core.
const ALL: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

fn smt(facts: &mut Facts, allowed: &[usize], siblings: &[&[usize]]) {
    facts.allowed = allowed.to_vec();
    facts.online = Ok(ALL.to_vec());
    let of_cpu = |&cpu: &usize| {
        let siblings = siblings.iter().find(|siblings| siblings.contains(&cpu))?;
        Some((cpu, siblings.to_vec()))
    };
    facts.siblings = allowed.iter().filter_map(of_cpu).collect();
}

fn late(us: u64) -> Lateness {
    Lateness {
        p50: Duration::from_micros(57),
        p99: Duration::from_micros(us),
    }
}

const ROOT: Privileges = Privileges {
    root: true,
    admin: true,
    perfmon: true,
    filtered: false,
};

fn gone<T>() -> Fact<T> {
    Err(Unread::Absent("/it".to_owned()))
}

/// What is changed, the check, its value.
const FINE: &[(Change, &str, &str)] = &[
    (|_| {}, "cores", "2 online, 2 allowed, on 2 cores"),
    (|f| f.online = gone(), "cores", "2 allowed, on 2 cores"),
    (
        |f| f.siblings.clear(),
        "cores",
        "2 online, 2 allowed, siblings unknown",
    ),
    (
        |f| smt(f, &[0, 4], &[&[0, 4]]),
        "cores",
        "8 online, 2 allowed, on one core",
    ),
    (
        |_| {},
        "pinning",
        "--pin-server 0 (taskset -c 0), --pin-client 1",
    ),
    (
        |f| f.siblings.clear(),
        "pinning",
        "--pin-server 0 (taskset -c 0), --pin-client 1",
    ),
    (
        |f| smt(f, &[0, 1, 2, 3], &[&[0, 1], &[2, 3]]),
        "pinning",
        "--pin-server 0-1 (taskset -c 0-1), --pin-client 2-3",
    ),
    (
        |f| smt(f, &[0, 2, 4], &[&[0], &[2], &[4]]),
        "pinning",
        "--pin-server 0 (taskset -c 0), --pin-client 2,4",
    ),
    (|_| {}, "CPU quota", "no limit"),
    (
        |_| {},
        "governor",
        "none here, as is usual in a virtual machine",
    ),
    (
        |f| f.governors = Ok(vec!["performance".to_owned()]),
        "governor",
        "performance",
    ),
    (|_| {}, "steal", "0.0% of CPU time now, 0.00% since boot"),
    (
        |_| {},
        "other load",
        "2% of CPU time now, load average 0.25",
    ),
    (
        |f| f.load_average = gone(),
        "other load",
        "2% of CPU time now",
    ),
    (|_| {}, "clock source", "tsc"),
    (
        |f| f.clock_source = Ok("kvm-clock".to_owned()),
        "clock source",
        "kvm-clock",
    ),
    (
        |f| f.clock_read = Duration::from_nanos(200),
        "clock read",
        "200 ns",
    ),
    (
        |_| {},
        "wake-up",
        "57 µs late, p99 93 µs; timer slack 50 µs",
    ),
    (
        |f| f.timer_slack_ns = gone(),
        "wake-up",
        "57 µs late, p99 93 µs",
    ),
    (
        |f| f.lateness = late(500),
        "wake-up",
        "57 µs late, p99 500 µs; timer slack 50 µs",
    ),
    (|_| {}, "memory", "7.0 of 8.0 GiB available"),
    (
        |_| {},
        "open files",
        "soft 1,024, hard 524,288: 524k connections",
    ),
    (
        |f| f.open_files = Ok((1024, u64::MAX)),
        "open files",
        "soft 1,024, hard unlimited",
    ),
    (
        |f| f.open_files = Ok((64, 10_064)),
        "open files",
        "soft 64, hard 10,064: 10.0k connections",
    ),
    (|_| {}, "port range", "28,232 ports (32768 to 60999)"),
    (
        |_| {},
        "new connections",
        "loopback 903k/s, 28.2k/s an address; remote 471/s",
    ),
    (
        |f| f.time_wait_reuse = Ok(1),
        "new connections",
        "loopback 903k/s, 28.2k/s an address; remote 28.2k/s",
    ),
    (
        |f| f.time_wait_reuse_delay_ms = Ok(500),
        "new connections",
        "loopback 1.81M/s, 56.5k/s an address; remote 471/s",
    ),
    (
        |f| f.time_wait_reuse_delay_ms = gone(),
        "new connections",
        "loopback 903k/s, 28.2k/s an address; remote 471/s",
    ),
    (|_| {}, "TIME_WAIT", "0 now; on loopback reused after 1 s"),
    (
        |f| (f.time_wait, f.time_wait_reuse_delay_ms) = (Ok(200_000), Ok(500)),
        "TIME_WAIT",
        "200,000 now; on loopback reused after 0.5 s",
    ),
    (
        |f| (f.time_wait, f.time_wait_reuse) = (Ok(14_116), Ok(0)),
        "TIME_WAIT",
        "14,116 now; each holds its port for 60 s",
    ),
    (
        |_| {},
        "FIN timeout",
        "60 s (it does not shorten TIME_WAIT)",
    ),
    (|_| {}, "accept queue", "net.core.somaxconn 4,096"),
    (|_| {}, "SYN queue", "tcp_max_syn_backlog 2,048"),
    (
        |f| f.syn_backlog_max = Ok(128),
        "SYN queue",
        "tcp_max_syn_backlog 128, unused with cookies",
    ),
    (
        |f| (f.syn_backlog_max, f.syn_cookies) = (Ok(1024), Ok(0)),
        "SYN queue",
        "tcp_max_syn_backlog 1,024",
    ),
    (
        |_| {},
        "SYN cookies",
        "tcp_syncookies 1: when a queue is full",
    ),
    (
        |f| f.syn_cookies = Ok(0),
        "SYN cookies",
        "tcp_syncookies 0: never",
    ),
    (|_| {}, "congestion", "cubic"),
    (|_| {}, "tracking", "nf_conntrack is not loaded"),
    (
        |f| f.tracked = Ok((0, 9)),
        "tracking",
        "nf_conntrack is loaded, but not active",
    ),
    (|_| {}, "loopback MTU", "65,536 bytes"),
    (|_| {}, "tracefs", "readable at /sys/kernel/tracing"),
    (|_| {}, "perf events", "perf_event_paranoid 1"),
    (
        |f| f.perf_event_paranoid = Ok(-1),
        "perf events",
        "perf_event_paranoid -1",
    ),
    (
        |f| (f.perf_event_paranoid, f.privileges) = (Ok(4), Ok(ROOT)),
        "perf events",
        "perf_event_paranoid 4, which does not restrict this user",
    ),
    (|_| {}, "io_uring", "io_uring_disabled 0"),
    (
        |f| (f.io_uring_disabled, f.privileges) = (Ok(1), Ok(ROOT)),
        "io_uring",
        "io_uring_disabled 1, which does not restrict this user",
    ),
];

/// What is changed, the check, its value, what mends it.
const WARN: &[(Change, &str, &str, &str)] = &[
    (
        |f| f.allowed = vec![1],
        "pinning",
        "one CPU for server and generator",
        "taskset -pc 0-1 $$",
    ),
    (
        |f| (f.allowed, f.online) = (vec![0], Ok(vec![0])),
        "pinning",
        "one CPU for server and generator",
        "Measure on a machine with two cores or more.",
    ),
    (
        |f| smt(f, &[0, 4], &[&[0, 4]]),
        "pinning",
        "CPUs 0,4 are threads of one core",
        "taskset -pc 0-7 $$",
    ),
    (
        |f| f.quota = Ok(Some(1)),
        "CPU quota",
        "1 CPU's worth of time for 2 CPUs",
        "Give the container its own CPUs",
    ),
    (
        |f| (f.allowed, f.quota) = ((0..8).collect(), Ok(Some(2))),
        "CPU quota",
        "2 CPUs' worth of time for 8 CPUs",
        "Give the container its own CPUs",
    ),
    (
        |f| f.governors = Ok(vec!["performance".to_owned(), "powersave".to_owned()]),
        "governor",
        "performance, powersave",
        "sudo cpupower frequency-set -g performance",
    ),
    (
        |f| f.moment = moment("0 0 0 9000 0 0 0 0", "0 0 0 9099 0 0 0 1"),
        "steal",
        "1.0% of CPU time now, 0.01% since boot",
        "Use a machine with dedicated CPUs",
    ),
    (
        |f| f.moment = moment("0 0 0 9800 0 0 0 200", "0 0 0 9900 0 0 0 200"),
        "steal",
        "0.0% of CPU time now, 1.98% since boot",
        "Use a machine with dedicated CPUs",
    ),
    (
        |f| f.moment = moment("0 0 0 0 0 0 0 0", "5 0 4 45 45 0 1 0"),
        "other load",
        "10% of CPU time now, load average 0.25",
        "Find out with top what is running",
    ),
    (
        |f| f.clock_source = Ok("hpet".to_owned()),
        "clock source",
        "hpet",
        "echo tsc | sudo tee /sys/devices/system/clocksource/*/current_clocksource",
    ),
    (
        |f| (f.clock_source, f.clock_sources) = (Ok("acpi_pm".to_owned()), gone()),
        "clock source",
        "acpi_pm",
        "Look in dmesg for the reason why",
    ),
    (
        |f| f.clock_read = Duration::from_nanos(201),
        "clock read",
        "201 ns",
        "Use a machine whose clock source",
    ),
    (
        |f| f.lateness = late(501),
        "wake-up",
        "57 µs late, p99 501 µs; timer slack 50 µs",
        "Stop other work on this machine",
    ),
    (
        |f| (f.lateness, f.governors) = (late(1500), Ok(vec!["performance".to_owned()])),
        "wake-up",
        "57 µs late, p99 1,500 µs; timer slack 50 µs",
        "sudo cpupower idle-set -D 10",
    ),
    (
        |f| f.memory_kib = Ok((8 << 20, (1 << 20) - 1)),
        "memory",
        "1.0 of 8.0 GiB available",
        "ps -eo pid,rss,comm --sort=-rss | head",
    ),
    (
        |f| f.open_files = Ok((1024, 10_063)),
        "open files",
        "soft 1,024, hard 10,063: 10.0k connections",
        "sudo prlimit --pid $$ --nofile=1048576",
    ),
    (
        |f| (f.open_files, f.privileges) = (Ok((256, 256)), Ok(ROOT)),
        "open files",
        "soft 256, hard 256: 192 connections",
        "prlimit --pid $$ --nofile=1048576",
    ),
    (
        |f| f.port_range = Ok((50_001, 60_000 - 1)),
        "port range",
        "9,999 ports (50001 to 59999)",
        "sudo sysctl -w net.ipv4.ip_local_port_range=\"10240 65535\"",
    ),
    (
        |f| f.time_wait_reuse = Ok(0),
        "new connections",
        "loopback 15.1k/s, 471/s an address; remote 471/s",
        "sudo sysctl -w net.ipv4.tcp_tw_reuse=2",
    ),
    (
        |f| f.timestamps = Ok(0),
        "new connections",
        "loopback 15.1k/s, 471/s an address; remote 471/s",
        "sudo sysctl -w net.ipv4.tcp_timestamps=1 net.ipv4.tcp_tw_reuse=2",
    ),
    (
        |f| f.port_range = Ok((60_000, 60_499)),
        "new connections",
        "loopback 16.0k/s, 500/s an address; remote 8.33/s",
        "sudo sysctl -w net.ipv4.ip_local_port_range=\"10240 65535\"",
    ),
    (
        |f| (f.time_wait, f.time_wait_reuse) = (Ok(14_117), Ok(0)),
        "TIME_WAIT",
        "14,117 now; each holds its port for 60 s",
        "sleep 60",
    ),
    (
        |f| f.fin_timeout_s = Ok(61),
        "FIN timeout",
        "61 s (it does not shorten TIME_WAIT)",
        "sudo sysctl -w net.ipv4.tcp_fin_timeout=60",
    ),
    (
        |f| f.accept_queue_max = Ok(128),
        "accept queue",
        "net.core.somaxconn 128",
        "sudo sysctl -w net.core.somaxconn=4096",
    ),
    (
        |f| (f.syn_backlog_max, f.syn_cookies) = (Ok(128), Ok(0)),
        "SYN queue",
        "tcp_max_syn_backlog 128",
        "sudo sysctl -w net.ipv4.tcp_max_syn_backlog=4096",
    ),
    (
        |f| f.syn_cookies = Ok(2),
        "SYN cookies",
        "tcp_syncookies 2: for every connection",
        "sudo sysctl -w net.ipv4.tcp_syncookies=1",
    ),
    (
        |f| f.congestion_control = Ok("bbr".to_owned()),
        "congestion",
        "bbr",
        "sudo sysctl -w net.ipv4.tcp_congestion_control=cubic",
    ),
    (
        |f| (f.congestion_control, f.congestion_controls) = (Ok("bbr2".to_owned()), gone()),
        "congestion",
        "bbr2",
        "sudo sysctl -w net.ipv4.tcp_congestion_control=reno",
    ),
    (
        |f| f.tracked = Ok((1, 262_144)),
        "tracking",
        "nf_conntrack has 1 of 262,144",
        "sudo iptables -t raw -I OUTPUT -o lo -j CT --notrack",
    ),
    (
        |f| f.loopback_mtu = Ok(1500),
        "loopback MTU",
        "1,500 bytes",
        "sudo ip link set lo mtu 65536",
    ),
    (
        |f| f.tracefs = Ok(Tracefs::Unmounted),
        "tracefs",
        "not mounted",
        "sudo mount -t tracefs nodev /sys/kernel/tracing",
    ),
    (
        |f| f.tracefs = Ok(Tracefs::Forbidden),
        "tracefs",
        "mounted, but not readable by this user",
        "Run loadgen as root to count",
    ),
    (
        |f| (f.tracefs, f.privileges) = (Ok(Tracefs::Forbidden), Ok(ROOT)),
        "tracefs",
        "mounted, but not readable by this user",
        "Run loadgen as root of the machine, outside",
    ),
    (
        |f| f.tracefs = Ok(Tracefs::Incomplete),
        "tracefs",
        "mounted, but without system calls",
        "Use a kernel that was built with",
    ),
    (
        |f| f.tracefs = Ok(Tracefs::Unsupported),
        "tracefs",
        "not in this kernel",
        "Use a kernel that was built with",
    ),
    (
        |f| f.perf_event_paranoid = Ok(2),
        "perf events",
        "perf_event_paranoid 2",
        "sudo sysctl -w kernel.perf_event_paranoid=1",
    ),
    (
        |f| f.io_uring_disabled = Ok(1),
        "io_uring",
        "io_uring_disabled 1",
        "sudo sysctl -w kernel.io_uring_disabled=0",
    ),
    (
        |f| (f.io_uring_disabled, f.privileges) = (Ok(2), Ok(ROOT)),
        "io_uring",
        "io_uring_disabled 2",
        "sysctl -w kernel.io_uring_disabled=0",
    ),
];

/// What is changed, the check, why it is unknown.
const UNKNOWN: &[(Change, &str, &str)] = &[
    (
        |f| (f.allowed, f.online) = (Vec::new(), gone()),
        "cores",
        "no /it",
    ),
    (
        |f| f.allowed.clear(),
        "pinning",
        "the system does not report which CPUs may be used",
    ),
    (|f| f.quota = gone(), "CPU quota", "no /it"),
    (|f| f.online = gone(), "governor", "no /governor"),
    (|f| f.moment = gone(), "steal", "no /it"),
    (
        |f| f.moment = moment("0 0 0 0 0 0 0 0", "0 0 0 0 0 0 0 0"),
        "steal",
        "/proc/stat stands still",
    ),
    (|f| f.moment = gone(), "other load", "no /it"),
    (
        |f| f.moment = moment("1 0 0 1 0 0 0 0", "1 0 0 1 0 0 0 0"),
        "other load",
        "/proc/stat stands still",
    ),
    (|f| f.clock_source = gone(), "clock source", "no /it"),
    (|f| f.memory_kib = gone(), "memory", "no /it"),
    (|f| f.open_files = gone(), "open files", "no /it"),
    (|f| f.port_range = gone(), "port range", "no /it"),
    (|f| f.port_range = gone(), "new connections", "no /it"),
    (|f| f.time_wait_reuse = gone(), "new connections", "no /it"),
    (|f| f.timestamps = gone(), "new connections", "no /it"),
    (|f| f.time_wait = gone(), "TIME_WAIT", "no /it"),
    (|f| f.fin_timeout_s = gone(), "FIN timeout", "no /it"),
    (|f| f.accept_queue_max = gone(), "accept queue", "no /it"),
    (|f| f.syn_backlog_max = gone(), "SYN queue", "no /it"),
    (|f| f.syn_cookies = gone(), "SYN queue", "no /it"),
    (|f| f.syn_cookies = gone(), "SYN cookies", "no /it"),
    (
        |f| f.syn_cookies = Ok(7),
        "SYN cookies",
        "tcp_syncookies is 7",
    ),
    (|f| f.congestion_control = gone(), "congestion", "no /it"),
    (|f| f.accept_queue_max = gone(), "tracking", "no /conntrack"),
    (|f| f.loopback_mtu = gone(), "loopback MTU", "no /it"),
    (|f| f.tracefs = gone(), "tracefs", "no /it"),
    (|f| f.perf_event_paranoid = gone(), "perf events", "no /it"),
    (
        |f| f.io_uring_disabled = gone(),
        "io_uring",
        "no /it, which came with Linux 6.6",
    ),
    (
        |f| f.privileges.as_mut().unwrap().filtered = true,
        "io_uring",
        "io_uring_disabled 0; a seccomp filter may refuse it",
    ),
];

#[test]
fn what_is_fine() {
    for &(change, check, value) in FINE {
        let finding = find(change, check);
        assert_eq!(finding.value.as_deref(), Some(value), "{check}");
        let rest = (finding.status, &finding.why, &finding.mend);
        assert_eq!(rest, (Status::Ok, &None, &None), "{check}: {value}");
    }
}

#[test]
fn what_is_not_fine() {
    for &(change, check, value, mend) in WARN {
        let finding = find(change, check);
        assert_eq!(finding.value.as_deref(), Some(value), "{check}");
        assert_eq!(finding.status, Status::Warn, "{check}: {value}");
        let why = finding.why.unwrap();
        assert!(why.ends_with('.') && why.len() > 40, "{check}: {why}");
        match finding.mend.unwrap() {
            Mend::Command(command) => assert_eq!(command, mend, "{check}: {value}"),
            Mend::Advice(advice) => {
                assert!(advice.starts_with(mend), "{check}: {advice}");
                assert!(advice.ends_with('.'), "{check}: {advice}");
            }
        }
    }
}

#[test]
fn what_is_unknown() {
    for &(change, check, why) in UNKNOWN {
        let finding = find(change, check);
        assert_eq!(finding.why.as_deref(), Some(why), "{check}");
        let rest = (finding.status, &finding.value, &finding.mend);
        assert_eq!(rest, (Status::Unknown, &None, &None), "{check}: {why}");
    }
}

/// The tables above leave out nothing that can come out.
#[test]
fn the_tables_are_complete() {
    let all: BTreeSet<&str> = CHECKS.into_iter().map(|(name, _)| name).collect();
    assert_eq!(all.len(), CHECKS.len(), "names are unique");
    let without = |names: &[&str]| -> BTreeSet<&str> {
        all.iter()
            .copied()
            .filter(|name| !names.contains(name))
            .collect()
    };
    let fine: BTreeSet<&str> = FINE.iter().map(|row| row.1).collect();
    assert_eq!(fine, all);
    // That there is one core for both is said of the pinning.
    let warn: BTreeSet<&str> = WARN.iter().map(|row| row.1).collect();
    assert_eq!(warn, without(&["cores"]));
    // What is measured is always known.
    let unknown: BTreeSet<&str> = UNKNOWN.iter().map(|row| row.1).collect();
    assert_eq!(unknown, without(&["clock read", "wake-up"]));
}

#[test]
fn a_sound_machine_has_no_warning() {
    let findings = judge(&sound());
    let not_ok = findings
        .iter()
        .filter(|finding| finding.status != Status::Ok);
    assert_eq!(not_ok.collect::<Vec<_>>(), Vec::<&Finding>::new());
}
