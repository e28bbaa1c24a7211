//! System calls and changes of state, as the kernel's tracepoints tell them.
