//! Tells the compiler which Python this is for: free-threaded ones guard state by a lock instead of the GIL.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
