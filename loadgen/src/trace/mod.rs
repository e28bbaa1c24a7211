//! One connection, seen on all four layers: what programs call, what TCP does of it, what goes over the
//! interface, and which sockets there are meanwhile.
//!
//! A [`client`] asks while everything looks ([`live`]). Facts are gathered into a
//! [`Record`](model::Record): from the interface or a capture file ([`packets`]), from the kernel's
//! tracepoints ([`kernel`]), from its list of sockets ([`sockets`]), and from the client's own [`clock`].
//! [`story`] orders them by connection and phase and says why each came about; [`crate::report::trace`]
//! prints that.

pub mod client;
pub mod clock;
pub mod kernel;
pub mod live;
pub mod model;
pub mod packets;
pub mod sequence;
pub mod sockets;
pub mod story;
