//! Captures that are made, not recorded: what stands in them is known, so that what is said of them can be
//! held against it.

pub(crate) mod builder;
pub(crate) mod claims;
pub(crate) mod list;
pub(crate) mod said;
pub(crate) mod table;
pub(crate) mod tshark;
pub(crate) mod wire;
