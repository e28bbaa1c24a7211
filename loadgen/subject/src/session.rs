//! The life of a measured server: it is started, probed, metered while it serves, stopped, and judged by how it ended.
//!
//! Every verb that starts a server uses this module, so that one policy applies: a server that dies during the load,
//! does not stop after SIGTERM, cannot be killed, or is not the only one to answer has a [`Fault`], regardless of its
//! figures.

use std::cell::Cell;
use std::path::Path;

use crate::catalogue::Server;
use crate::fault::Fault;
use crate::meter::Meter;
use crate::process::{Ended, Error, Options, Owner, ProbeError, STOP_WITHIN, Target};

/// A server that was started in order to measure it.
#[derive(Debug)]
pub struct Session {
    target: Target,
    cpus: Vec<usize>,
    /// It has not been under load yet.
    is_fresh: Cell<bool>,
}

impl Session {
    /// Starts `server` in `root` and waits until it can accept.
    ///
    /// # Errors
    ///
    /// Those of [`Target::start`].
    pub fn start(server: &Server, root: &Path, options: &Options) -> Result<Self, Error> {
        Ok(Session {
            target: Target::start(server, root, options)?,
            cpus: options.cpus.clone(),
            is_fresh: Cell::new(true),
        })
    }

    /// Checks that it answers `GET /` with `hello world`.
    ///
    /// # Errors
    ///
    /// Those of [`Target::probe`].
    pub fn probe(&self) -> Result<(), ProbeError> {
        self.target.probe()
    }

    /// The server as a process.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A meter for one load. Only the first one also reads the memory of idle connections: memory that an earlier load left
    /// to the server would not grow again.
    pub fn meter(&self) -> Meter<'_> {
        Meter::new(&self.target, self.is_fresh.replace(false), &self.cpus)
    }

    /// Checks that no other process answers at its address.
    pub fn is_alone(&self) -> Result<(), Fault> {
        match self.target.owner() {
            Owner::Others(others) => Err(Fault::Foreign(others)),
            Owner::Server | Owner::Unknown(_) => Ok(()),
        }
    }

    /// Stops it, and judges how it ended.
    pub fn end(self) -> (Ended, Result<(), Fault>) {
        let died = self.target.has_ended();
        let ended = self.target.stop(STOP_WITHIN);
        let fault = match (died, ended.killed, ended.left.is_empty()) {
            (true, _, _) => Err(Fault::Died(ended.to_string())),
            (false, true, _) => Err(Fault::NotStopped),
            (false, false, false) => Err(Fault::NotKilled(ended.left.join(", "))),
            (false, false, true) => Ok(()),
        };
        (ended, fault)
    }
}
