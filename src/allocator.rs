//! The program's allocator, and how long it keeps free memory.

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, for which the crate has no name.
const PURGE_DELAY: mi_option_t = 15;

/// How long free memory is kept, in milliseconds.
///
/// The allocator's own default is a second: requests that need much memory, one
/// after another, would hold several times what the limits allow them together.
const DELAY: c_long = 10;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Call this before memory is freed. `MIMALLOC_PURGE_DELAY` has precedence.
#[expect(unsafe_code, reason = "the crate has no safe function for options")]
pub fn give_memory_back_soon() {
    // SAFETY: the allocator checks the option, and no other thread runs yet.
    unsafe { mi_option_set_default(PURGE_DELAY, DELAY) }
}
