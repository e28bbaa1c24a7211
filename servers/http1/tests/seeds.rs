//! Checks every input in `fuzz/seeds`: inputs written by hand, and those that the fuzzer found interesting.

mod peer;
mod plan;
mod reference;

use std::path::{Path, PathBuf};
use std::{fs, thread};

use plan::Plan;

#[test]
fn of_the_target_head() {
    replay("head", Plan::decode_head);
}

#[test]
fn of_the_target_connection() {
    replay("connection", Plan::decode);
}

fn replay(target: &str, decode: fn(&[u8]) -> Plan) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let files = fs::read_dir(folder.join(target)).expect("a folder of seeds");
    let mut count = 0;
    for file in files {
        let named = Named(file.expect("a file").path());
        decode(&fs::read(&named.0).expect("a seed")).check();
        count += 1;
    }
    assert!(count > 100, "{count} seeds: where are they?");
}

/// Prints the name of the file if a check fails.
struct Named(PathBuf);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("with {}", self.0.display());
        }
    }
}
