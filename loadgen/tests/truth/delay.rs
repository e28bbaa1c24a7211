//! How long a server takes: distributions with known quantiles, and stalls.

use std::str::FromStr;
use std::time::Duration;

/// A distribution of delays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Delay {
    Fixed(Duration),
    /// Between two delays, each as likely.
    Uniform(Duration, Duration),
    /// The first, or with this probability the second, which is longer.
    Bimodal(Duration, Duration, f64),
    /// With this mean.
    Exponential(Duration),
}

impl Delay {
    /// Draws the next delay, nanoseconds.
    pub(crate) fn draw_ns(&self, random: &mut fastrand::Rng) -> u64 {
        self.quantile(random.f64()).as_nanos() as u64
    }

    /// The delay that a share `p` of delays does not exceed, 0 <= p < 1: the inverse of the distribution
    /// function.
    pub(crate) fn quantile(&self, p: f64) -> Duration {
        match *self {
            Delay::Fixed(delay) => delay,
            Delay::Uniform(least, most) => least + (most - least).mul_f64(p),
            Delay::Bimodal(usual, _, share) if p < 1.0 - share => usual,
            Delay::Bimodal(_, rare, _) => rare,
            Delay::Exponential(mean) => mean.mul_f64(-(1.0 - p).ln()),
        }
    }
}

/// `fixed:5ms`, `uniform:1ms..9ms`, `bimodal:1ms,20ms,0.1`, `exponential:5ms`.
impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let time = |text: &str| humantime::parse_duration(text).map_err(|error| error.to_string());
        match kind {
            "fixed" => Ok(Delay::Fixed(time(rest)?)),
            "uniform" => match rest.split_once("..") {
                Some((least, most)) if time(least)? < time(most)? => {
                    Ok(Delay::Uniform(time(least)?, time(most)?))
                }
                _ => Err("expected uniform:LEAST..MOST, such as uniform:1ms..9ms".to_owned()),
            },
            "bimodal" => {
                let parts: Vec<&str> = rest.split(',').collect();
                let &[usual, rare, share] = &parts[..] else {
                    return Err(
                        "expected bimodal:USUAL,RARE,SHARE of the rare ones, such as \
                                bimodal:1ms,20ms,0.1"
                            .to_owned(),
                    );
                };
                let share = share.parse().ok().filter(|s| (0.0..=1.0).contains(s));
                let share = share.ok_or("a share lies between 0 and 1")?;
                Ok(Delay::Bimodal(time(usual)?, time(rare)?, share))
            }
            "exponential" => Ok(Delay::Exponential(time(rest)?)),
            _ => Err("expected fixed:, uniform:, bimodal: or exponential:".to_owned()),
        }
    }
}

/// At the end of every so much time, counted from the start of the server, nothing is answered for so
/// long; what was due meanwhile is answered at once thereafter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stall {
    pub(crate) every: Duration,
    pub(crate) lasts: Duration,
}

impl Stall {
    /// When something due at `at` happens, both in nanoseconds since the start of the server.
    pub(crate) fn release_ns(&self, at: u64) -> u64 {
        let every = self.every.as_nanos() as u64;
        let phase = at % every;
        match phase < every - self.lasts.as_nanos() as u64 {
            true => at,
            false => at - phase + every,
        }
    }
}

/// `200ms/1s`: for so long in every so much time.
impl FromStr for Stall {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = |text: &str| humantime::parse_duration(text).map_err(|error| error.to_string());
        match text.split_once('/') {
            Some((lasts, every)) if time(lasts)? < time(every)? => Ok(Stall {
                every: time(every)?,
                lasts: time(lasts)?,
            }),
            _ => Err("expected how long in every how much time, such as 200ms/1s".to_owned()),
        }
    }
}
