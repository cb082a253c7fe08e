//! The few calls into the engine's C interface that its Rust binding does not offer.
#![allow(unsafe_code)]

use rquickjs::{Ctx, Exception, TypedArray, Value, qjs};

/// Sets the heap limit while code of this context is running.
pub(super) fn set_memory_limit(ctx: &Ctx<'_>, bytes: u64) {
    let limit = usize::try_from(bytes).unwrap_or(usize::MAX);
    // SAFETY: the context is alive as long as `ctx`, and with it its runtime; the call only stores a number there.
    unsafe { qjs::JS_SetMemoryLimit(qjs::JS_GetRuntime(ctx.as_raw().as_ptr()), limit as _) };
}

/// Lets `performance` count from now.
pub(super) fn restart_clock(ctx: &Ctx<'_>) {
    // SAFETY: the context is alive as long as `ctx`; the call puts a new object in the place of the old one.
    unsafe { qjs::JS_AddPerformance(ctx.as_raw().as_ptr()) };
}

/// Throws an error that no `catch` or `finally` of the program can hold back.
pub(super) fn throw_uncatchable(ctx: &Ctx<'_>, message: &str) -> rquickjs::Error {
    match Exception::from_message(ctx.clone(), message) {
        Ok(exception) => {
            let value: Value<'_> = exception.into_object().into_value();
            // SAFETY: `value` is a live error object of this context; the call marks it and takes no ownership.
            unsafe { qjs::JS_SetUncatchableError(ctx.as_raw().as_ptr(), value.as_raw()) };
            ctx.throw(value)
        }
        Err(error) => error,
    }
}

/// A copy of the bytes of an array; empty when its buffer was detached.
pub(super) fn copy(array: &TypedArray<'_, u8>) -> Vec<u8> {
    // SAFETY: the slice is copied at once; no JavaScript runs meanwhile that could detach or resize the buffer.
    unsafe { array.as_bytes() }.map(<[u8]>::to_vec).unwrap_or_default()
}
