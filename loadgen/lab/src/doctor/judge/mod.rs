//! Turns facts into findings: what is fine, what is not, why it matters, and what fixes it. A pure
//! function.

use std::time::Duration;

use super::facts::{Fact, Facts, Tracefs};
use super::{Finding, Mend, Status};
use engine::affinity::list_of;
use engine::cpu_time::CpuTime;
use engine::figures::figure;
use engine::figures::thousands;
use engine::limits::FILES_RESERVED;
use engine::ports::{Budget, LOOPBACK_SOURCES, TIME_WAIT};
use subject::machine::{Pinning, cores_of};

/// All checks in the order of the report: processors, time, memory and files, network, instruments.
const CHECKS: [(&str, Check); 24] = [
    ("cores", cores),
    ("pinning", pinning),
    ("CPU quota", quota),
    ("governor", governor),
    ("steal", steal),
    ("other load", load),
    ("clock source", clock_source),
    ("clock read", clock_read),
    ("wake-up", wake_up),
    ("memory", memory),
    ("open files", open_files),
    ("port range", port_range),
    ("new connections", new_connections),
    ("TIME_WAIT", time_wait),
    ("FIN timeout", fin_timeout),
    ("accept queue", accept_queue),
    ("SYN queue", syn_queue),
    ("SYN cookies", syn_cookies),
    ("congestion", congestion),
    ("tracking", tracking),
    ("loopback MTU", loopback_mtu),
    ("tracefs", tracefs),
    ("perf events", perf_events),
    ("io_uring", io_uring),
];

/// A check: judges one thing, or says why it is unknown.
type Check = fn(&Facts) -> Result<Judgement, String>;

struct Judgement {
    value: String,
    /// Why it matters and what fixes it, if it is not fine.
    warning: Option<(&'static str, Mend)>,
}

/// Makes all checks.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let finding = |(name, check): (&'static str, Check)| match check(facts) {
        Ok(Judgement { value, warning }) => {
            let status = match warning {
                Some(_) => Status::Warn,
                None => Status::Ok,
            };
            let (why, mend) = warning.unzip();
            Finding {
                check: name,
                status,
                value: Some(value),
                why: why.map(str::to_owned),
                mend,
            }
        }
        Err(why) => Finding {
            check: name,
            status: Status::Unknown,
            value: None,
            why: Some(why),
            mend: None,
        },
    };
    CHECKS.into_iter().map(finding).collect()
}

fn cores(facts: &Facts) -> Result<Judgement, String> {
    let allowed = facts.allowed.len();
    let online = match &facts.online {
        Ok(online) => format!("{} online, ", online.len()),
        Err(_) if allowed > 0 => String::new(),
        Err(unread) => return Err(unread.to_string()),
    };
    let places = match facts.siblings.len() {
        known if known < allowed => "siblings unknown".to_owned(),
        _ => match cores_of(&facts.allowed, &facts.siblings).len() {
            1 => "on one core".to_owned(),
            cores => format!("on {cores} cores"),
        },
    };
    fine(format!("{online}{allowed} allowed, {places}"))
}

fn pinning(facts: &Facts) -> Result<Judgement, String> {
    let cores = cores_of(&facts.allowed, &facts.siblings);
    let more = match &facts.online {
        Ok(online) if online.len() > facts.allowed.len() => {
            Mend::Command(format!("taskset -pc {} $$", list_of(online)))
        }
        _ => advice("Measure on a machine with two cores or more."),
    };
    match (facts.allowed.len(), cores.len()) {
        (0, _) => return Err("the system does not report which CPUs may be used".to_owned()),
        (1, _) => {
            return warn(
                "one CPU for server and generator",
                "Server and generator take turns, so neither is measured alone, and each waits for the other.",
                more,
            );
        }
        (_, 1) => {
            return warn(
                format!("CPUs {} are threads of one core", list_of(&facts.allowed)),
                "Threads of one core share its execution units, so the generator slows down the server.",
                more,
            );
        }
        _ => {}
    }
    let apart = Pinning::split(&facts.allowed, &facts.siblings);
    let (server, client) = (list_of(&apart.server), list_of(&apart.client));
    fine(format!(
        "--pin-server {server} (taskset -c {server}), --pin-client {client}"
    ))
}

fn quota(facts: &Facts) -> Result<Judgement, String> {
    match known(&facts.quota)? {
        None => fine("no limit"),
        Some(quota) => warn(
            match quota {
                1 => format!("1 CPU's worth of time for {} CPUs", facts.allowed.len()),
                _ => format!(
                    "{quota} CPUs' worth of time for {} CPUs",
                    facts.allowed.len()
                ),
            },
            "Once the quota is used up, all processes stop for the rest of a period, often for 50 ms and more: p99 \
             then shows the quota.",
            advice(
                "Give the container its own CPUs instead, for example with --cpuset-cpus 0-1 in place of \
                 --cpus 2.",
            ),
        ),
    }
}

fn governor(facts: &Facts) -> Result<Judgement, String> {
    let governors = match &facts.governors {
        Ok(governors) => governors,
        // If even the CPUs are unknown, an absent file proves nothing.
        Err(_) if facts.online.is_ok() => {
            return fine("none here, as is usual in a virtual machine");
        }
        Err(unread) => return Err(unread.to_string()),
    };
    let value = governors.join(", ");
    if governors.iter().all(|governor| governor == "performance") {
        return fine(value);
    }
    warn(
        value,
        "The clock rate follows the load, so the same request takes longer at a low rate than at a \
         high one.",
        as_root(facts, "cpupower frequency-set -g performance"),
    )
}

/// The maximum share of CPU time that may be stolen, in percent.
const STEAL_MAX: f64 = 1.0;

fn steal(facts: &Facts) -> Result<Judgement, String> {
    let (before, after) = known(&facts.moment)?;
    let now = after.steal_percent_since(before).ok_or(STANDS_STILL)?;
    let since_boot = after
        .steal_percent_since(&CpuTime::BOOT)
        .ok_or(STANDS_STILL)?;
    let value = format!("{now:.1}% of CPU time now, {since_boot:.2}% since boot");
    if now.max(since_boot) < STEAL_MAX {
        return fine(value);
    }
    warn(
        value,
        "The hypervisor ran other machines meanwhile; a request that waits for them looks slow.",
        advice("Use a machine with dedicated CPUs, or measure when its neighbours are idle."),
    )
}

const STANDS_STILL: &str = "/proc/stat stands still";

/// The maximum share of CPU time that other processes may use, in percent.
const LOAD_MAX: f64 = 10.0;

fn load(facts: &Facts) -> Result<Judgement, String> {
    let (before, after) = known(&facts.moment)?;
    let busy = after.busy_percent_since(before).ok_or(STANDS_STILL)?;
    let mut value = format!("{busy:.0}% of CPU time now");
    if let Ok(average) = facts.load_average {
        value += &format!(", load average {average:.2}");
    }
    if busy < LOAD_MAX {
        return fine(value);
    }
    warn(
        value,
        "Other processes compete with server and generator for the CPUs, which affects all numbers.",
        advice("Find out with top what is running; stop it, or wait until it has finished."),
    )
}

/// Clock sources that are read without a system call, best first.
const CLOCK_SOURCES: [&str; 4] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
];
/// Clock sources that are read from a device in about a microsecond, or that have the resolution of
/// a tick.
const SLOW_CLOCK_SOURCES: [&str; 5] = ["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies"];

fn clock_source(facts: &Facts) -> Result<Judgement, String> {
    let source = known(&facts.clock_source)?;
    if !SLOW_CLOCK_SOURCES.contains(&source.as_str()) {
        return fine(source.as_str());
    }
    let others = facts.clock_sources.as_deref().unwrap_or_default();
    let better = CLOCK_SOURCES
        .into_iter()
        .find(|name| others.iter().any(|other| other == name));
    warn(
        source.as_str(),
        "This source is slow to read or coarse, and the generator reads the clock for every request.",
        match better {
            Some(name) => Mend::Command(format!(
                "echo {name} | {}tee /sys/devices/system/clocksource/*/current_clocksource",
                sudo(facts)
            )),
            None => advice(
                "Look in dmesg for the reason why the kernel rejected the TSC; another machine may accept it.",
            ),
        },
    )
}

/// The maximum time for one read of the clock.
const CLOCK_READ_MAX: Duration = Duration::from_nanos(200);

fn clock_read(facts: &Facts) -> Result<Judgement, String> {
    let value = format!("{} ns", facts.clock_read.as_nanos());
    if facts.clock_read <= CLOCK_READ_MAX {
        return fine(value);
    }
    warn(
        value,
        "The generator reads the clock several times per request; this time is lost for \
         sending.",
        advice("Use a machine whose clock source is tsc or kvm-clock."),
    )
}

/// The maximum lateness: with it, at most one wake-up in a hundred is later.
const LATENESS_MAX: Duration = Duration::from_micros(500);

fn wake_up(facts: &Facts) -> Result<Judgement, String> {
    let us = |time: Duration| thousands(time.as_micros() as u64);
    let lateness = facts.lateness;
    let mut value = format!("{} µs late, p99 {} µs", us(lateness.p50), us(lateness.p99));
    if let Ok(slack) = facts.timer_slack_ns {
        value += &format!("; timer slack {} µs", thousands(slack / 1000));
    }
    if lateness.p99 <= LATENESS_MAX {
        return fine(value);
    }
    warn(
        value,
        "In open loop, this lateness is added to the response time of a request.",
        match facts.governors {
            Ok(_) => as_root(facts, "cpupower idle-set -D 10"),
            Err(_) => {
                advice("Stop other work on this machine; in a virtual machine, get dedicated CPUs.")
            }
        },
    )
}

const MIB: u64 = 1 << 10;
/// The minimum of available memory, in KiB.
const MEMORY_MIN_KIB: u64 = 1024 * MIB;

fn memory(facts: &Facts) -> Result<Judgement, String> {
    let &(all, available) = known(&facts.memory_kib)?;
    let gib = |kib: u64| kib as f64 / (1024 * MIB) as f64;
    let value = format!("{:.1} of {:.1} GiB available", gib(available), gib(all));
    if available >= MEMORY_MIN_KIB {
        return fine(value);
    }
    warn(
        value,
        "When memory runs out the kernel swaps, or kills the largest process.",
        Mend::Command("ps -eo pid,rss,comm --sort=-rss | head".to_owned()),
    )
}

/// A common number of connections.
const CONNECTIONS_MIN: u64 = 10_000;

fn open_files(facts: &Facts) -> Result<Judgement, String> {
    let &(soft, hard) = known(&facts.open_files)?;
    let limit = |limit: u64| match limit {
        u64::MAX => "unlimited".to_owned(),
        limit => thousands(limit),
    };
    let connections = hard.saturating_sub(FILES_RESERVED);
    let mut value = format!("soft {}, hard {}", limit(soft), limit(hard));
    if hard != u64::MAX {
        value += &format!(": {} connections", figure(connections as f64));
    }
    if connections >= CONNECTIONS_MIN {
        return fine(value);
    }
    warn(
        value,
        "Each connection is an open file of the generator and another one of the server.",
        as_root(facts, "prlimit --pid $$ --nofile=1048576"),
    )
}

/// The minimum number of ports per address.
const PORTS_MIN: u64 = 10_000;

fn port_range(facts: &Facts) -> Result<Judgement, String> {
    let &(first, last) = known(&facts.port_range)?;
    let ports = ports((first, last));
    let value = format!("{} ports ({first} to {last})", thousands(ports));
    if ports >= PORTS_MIN {
        return fine(value);
    }
    warn(
        value,
        "From one address, a server can have at most as many connections as there are ports.",
        sysctl(facts, "net.ipv4.ip_local_port_range=\"10240 65535\""),
    )
}

/// More new connections per second than one core of a generator can open.
const CONNECTIONS_PER_S_MIN: f64 = 25_000.0;

fn new_connections(facts: &Facts) -> Result<Judgement, String> {
    let budget = budget(facts)?;
    let rate = |on_loopback| budget.ports as f64 / budget.rest(on_loopback).as_secs_f64();
    let one_address = rate(true);
    let all_addresses = one_address * f64::from(LOOPBACK_SOURCES);
    let value = format!(
        "loopback {}/s, {}/s an address; remote {}/s",
        figure(all_addresses),
        figure(one_address),
        figure(rate(false))
    );
    if all_addresses >= CONNECTIONS_PER_S_MIN {
        return fine(value);
    }
    warn(
        value,
        "A closed connection keeps its port in TIME_WAIT; a generator that opens connections faster than \
         this runs out of ports.",
        match (is_reused(&budget), budget.timestamps) {
            (true, _) => sysctl(facts, "net.ipv4.ip_local_port_range=\"10240 65535\""),
            (false, true) => sysctl(facts, "net.ipv4.tcp_tw_reuse=2"),
            (false, false) => sysctl(facts, "net.ipv4.tcp_timestamps=1 net.ipv4.tcp_tw_reuse=2"),
        },
    )
}

fn time_wait(facts: &Facts) -> Result<Judgement, String> {
    let &sockets = known(&facts.time_wait)?;
    let budget = budget(facts)?;
    let now = thousands(sockets);
    if is_reused(&budget) {
        let after = seconds(budget.rest(true).as_secs_f64());
        return fine(format!("{now} now; on loopback reused after {after}"));
    }
    let value = format!("{now} now; each holds its port for 60 s");
    if sockets <= budget.ports / 2 {
        return fine(value);
    }
    warn(
        value,
        "Closed connections occupy most ports of one address.",
        Mend::Command("sleep 60".to_owned()),
    )
}

fn budget(facts: &Facts) -> Result<Budget, String> {
    let delay_ms = facts.time_wait_reuse_delay_ms.as_ref().unwrap_or(&1000);
    Ok(Budget {
        ports: ports(*known(&facts.port_range)?),
        timestamps: *known(&facts.timestamps)? != 0,
        reuse: *known(&facts.time_wait_reuse)?,
        reuse_delay: Duration::from_millis(*delay_ms),
    })
}

fn is_reused(budget: &Budget) -> bool {
    budget.rest(true) < TIME_WAIT
}

const FIN_TIMEOUT_MAX_S: u64 = 60;

fn fin_timeout(facts: &Facts) -> Result<Judgement, String> {
    let &timeout_s = known(&facts.fin_timeout_s)?;
    let value = format!("{timeout_s} s (it does not shorten TIME_WAIT)");
    if timeout_s <= FIN_TIMEOUT_MAX_S {
        return fine(value);
    }
    warn(
        value,
        "A server that is slow to close holds the generator's ports for as long as this.",
        sysctl(facts, "net.ipv4.tcp_fin_timeout=60"),
    )
}

/// A burst of connects that a server should survive.
const QUEUE_MIN: u64 = 1024;

fn accept_queue(facts: &Facts) -> Result<Judgement, String> {
    let &queue_max = known(&facts.accept_queue_max)?;
    let value = format!("net.core.somaxconn {}", thousands(queue_max));
    if queue_max >= QUEUE_MIN {
        return fine(value);
    }
    warn(
        value,
        "In a larger burst, the excess connects are dropped and repeated after a second.",
        sysctl(facts, "net.core.somaxconn=4096"),
    )
}

fn syn_queue(facts: &Facts) -> Result<Judgement, String> {
    let &backlog_max = known(&facts.syn_backlog_max)?;
    let &cookies = known(&facts.syn_cookies)?;
    let value = format!("tcp_max_syn_backlog {}", thousands(backlog_max));
    match (backlog_max, cookies) {
        (QUEUE_MIN.., _) => fine(value),
        // The kernel uses this limit only if it may not send cookies.
        (_, 1..) => fine(format!("{value}, unused with cookies")),
        (_, 0) => warn(
            value,
            "In a larger burst from remote hosts, the excess connects are dropped and repeated after a \
             second.",
            sysctl(facts, "net.ipv4.tcp_max_syn_backlog=4096"),
        ),
    }
}

fn syn_cookies(facts: &Facts) -> Result<Judgement, String> {
    match known(&facts.syn_cookies)? {
        0 => fine("tcp_syncookies 0: never"),
        1 => fine("tcp_syncookies 1: when a queue is full"),
        2 => warn(
            "tcp_syncookies 2: for every connection",
            "A cookie costs CPU time on every connect, which other machines do not spend.",
            sysctl(facts, "net.ipv4.tcp_syncookies=1"),
        ),
        other => Err(format!("tcp_syncookies is {other}")),
    }
}

fn congestion(facts: &Facts) -> Result<Judgement, String> {
    let name = known(&facts.congestion_control)?;
    if !name.starts_with("bbr") {
        return fine(name.as_str());
    }
    let others = facts.congestion_controls.as_deref().unwrap_or_default();
    let is_there = others.iter().any(|other| other == "cubic");
    let better = if is_there { "cubic" } else { "reno" };
    warn(
        name.as_str(),
        "It paces sending with timers, which are late when all CPUs are busy, so over loopback this \
         lateness is measured.",
        sysctl(facts, &format!("net.ipv4.tcp_congestion_control={better}")),
    )
}

fn tracking(facts: &Facts) -> Result<Judgement, String> {
    let &(count, max) = match &facts.tracked {
        Ok(tracked) => tracked,
        // If other network settings are unreadable too, an absent file proves nothing.
        Err(_) if facts.accept_queue_max.is_ok() => return fine("nf_conntrack is not loaded"),
        Err(unread) => return Err(unread.to_string()),
    };
    if count == 0 {
        return fine("nf_conntrack is loaded, but not active");
    }
    warn(
        format!(
            "nf_conntrack has {} of {}",
            thousands(count),
            thousands(max)
        ),
        "Each packet is looked up in its table, which keeps a closed connection for two minutes; when the table \
         is full, packets are dropped.",
        as_root(facts, "iptables -t raw -I OUTPUT -o lo -j CT --notrack"),
    )
}

const LOOPBACK_MTU: u64 = 65_536;

fn loopback_mtu(facts: &Facts) -> Result<Judgement, String> {
    let &mtu = known(&facts.loopback_mtu)?;
    let value = format!("{} bytes", thousands(mtu));
    if mtu >= LOOPBACK_MTU {
        return fine(value);
    }
    warn(
        value,
        "Large answers and pipelined requests are split into more packets than on other machines.",
        as_root(facts, "ip link set lo mtu 65536"),
    )
}

fn tracefs(facts: &Facts) -> Result<Judgement, String> {
    const WHY: &str = "System calls can only be counted with the kernel's tracepoints.";
    const KERNEL: &str = "Use a kernel that was built with CONFIG_FTRACE_SYSCALLS.";
    match known(&facts.tracefs)? {
        Tracefs::Readable(at) => fine(format!("readable at {at}")),
        Tracefs::Forbidden => warn(
            "mounted, but not readable by this user",
            WHY,
            match is_root(facts) {
                true => advice("Run loadgen as root of the machine, outside the container."),
                false => advice("Run loadgen as root to count system calls."),
            },
        ),
        Tracefs::Incomplete => warn("mounted, but without system calls", WHY, advice(KERNEL)),
        Tracefs::Unmounted => warn(
            "not mounted",
            WHY,
            as_root(facts, "mount -t tracefs nodev /sys/kernel/tracing"),
        ),
        Tracefs::Unsupported => warn("not in this kernel", WHY, advice(KERNEL)),
    }
}

/// From 2 on, the kernel hides its own activity from the process's user.
const PARANOID_MAX: i64 = 1;

fn perf_events(facts: &Facts) -> Result<Judgement, String> {
    let &paranoid = known(&facts.perf_event_paranoid)?;
    let value = format!("perf_event_paranoid {paranoid}");
    if paranoid <= PARANOID_MAX {
        return fine(value);
    }
    if facts.privileges.as_ref().is_ok_and(|may| may.perfmon) {
        return fine(format!("{value}, which does not restrict this user"));
    }
    warn(
        value,
        "Profilers cannot show time in the kernel, where a small request spends most of its time.",
        sysctl(facts, "kernel.perf_event_paranoid=1"),
    )
}

fn io_uring(facts: &Facts) -> Result<Judgement, String> {
    let disabled = known(&facts.io_uring_disabled)
        .map_err(|why| format!("{why}, which came with Linux 6.6"))?;
    let privileges = facts.privileges.as_ref().ok();
    if privileges.is_some_and(|may| may.filtered) && *disabled < 2 {
        return Err(format!(
            "io_uring_disabled {disabled}; a seccomp filter may refuse it"
        ));
    }
    let value = format!("io_uring_disabled {disabled}");
    match (disabled, privileges.is_some_and(|may| may.admin)) {
        (0, _) => fine(value),
        (1, true) => fine(format!("{value}, which does not restrict this user")),
        _ => warn(
            value,
            "A server that needs io_uring cannot be measured.",
            sysctl(facts, "kernel.io_uring_disabled=0"),
        ),
    }
}

fn fine(value: impl Into<String>) -> Result<Judgement, String> {
    Ok(Judgement {
        value: value.into(),
        warning: None,
    })
}

fn warn(value: impl Into<String>, why: &'static str, mend: Mend) -> Result<Judgement, String> {
    Ok(Judgement {
        value: value.into(),
        warning: Some((why, mend)),
    })
}

fn known<T>(fact: &Fact<T>) -> Result<&T, String> {
    fact.as_ref().map_err(ToString::to_string)
}

fn advice(text: &str) -> Mend {
    Mend::Advice(text.to_owned())
}

fn as_root(facts: &Facts, command: &str) -> Mend {
    Mend::Command(format!("{}{command}", sudo(facts)))
}

fn sysctl(facts: &Facts, setting: &str) -> Mend {
    as_root(facts, &format!("sysctl -w {setting}"))
}

/// A root user may not have sudo.
fn sudo(facts: &Facts) -> &'static str {
    if is_root(facts) { "" } else { "sudo " }
}

fn is_root(facts: &Facts) -> bool {
    facts.privileges.as_ref().is_ok_and(|may| may.root)
}

fn ports((first, last): (u64, u64)) -> u64 {
    (last + 1).saturating_sub(first)
}

/// A time in seconds: `1 s`, `0.5 s`.
fn seconds(seconds: f64) -> String {
    format!("{seconds} s")
}

#[cfg(test)]
mod tests;
