//!
pub struct Live;
pub struct Missing;
pub struct Ports;
