//! The kernel's list of sockets, through `sock_diag`.
