//! Fuzzes a head, together with the body and the further request that follow it.

#![no_main]

#[path = "../../tests/peer/mod.rs"]
mod peer;
#[path = "../../tests/plan/mod.rs"]
mod plan;
#[path = "../../tests/reference/mod.rs"]
mod reference;

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use plan::Plan;

libfuzzer_sys::fuzz_target!(|plan: Plan| plan.check());

impl<'a> Arbitrary<'a> for Plan {
    fn arbitrary(file: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Plan::decode_head(file.bytes(file.len())?))
    }
}
