//! The object of native functions that the prelude is given. The program itself never sees it.

use std::rc::Rc;

use rquickjs::context::EvalOptions;
use rquickjs::convert::List;
use rquickjs::function::Func;
use rquickjs::promise::PromiseState;
use rquickjs::{Ctx, Exception, Function, Object, Promise, Result, TypedArray, Value};

use super::engine::{State, deadline};
use super::net::Exchange;
use super::output::Stream;
use super::{data, raw};

/// Parts of the prelude that are compiled when a program first uses them.
const THEMES: &[(&str, &str)] = &[
    ("blob", include_str!("js/blob.js")),
    ("clone", include_str!("js/clone.js")),
    ("console", include_str!("js/console.js")),
    ("crypto", include_str!("js/crypto.js")),
    ("data", include_str!("js/data.js")),
    ("events", include_str!("js/events.js")),
    ("fetch", include_str!("js/fetch.js")),
    ("files", include_str!("js/files.js")),
    ("inspect", include_str!("js/inspect.js")),
    ("message", include_str!("js/message.js")),
    ("streams", include_str!("js/streams.js")),
    ("system", include_str!("js/system.js")),
    ("url", include_str!("js/url.js")),
];

/// Makes the object.
pub(super) fn object<'js>(ctx: &Ctx<'js>, state: &Rc<State>) -> Result<Object<'js>> {
    let native = Object::new(ctx.clone())?;
    native.set("load", Func::from(load))?;
    native.set("promiseState", Func::from(promise_state))?;
    process(&native, state)?;
    timers(&native, state)?;
    operations(&native, state)?;
    data::install(&native)?;
    Ok(native)
}

/// Compiles one theme of the prelude: a function that takes `native` and `need`.
fn load<'js>(ctx: Ctx<'js>, name: String) -> Result<Function<'js>> {
    let Some((_, source)) = THEMES.iter().find(|(theme, _)| *theme == name) else {
        return Err(Exception::throw_internal(&ctx, "no such part of the runtime"));
    };
    let mut options = EvalOptions::default();
    options.filename = Some(format!("oauth3:{name}"));
    ctx.eval_with_options(*source, options)
}

/// `["pending" | "fulfilled" | "rejected", value]` of a promise, which JavaScript cannot ask for.
fn promise_state<'js>(ctx: Ctx<'js>, promise: Promise<'js>) -> Result<List<(&'static str, Value<'js>)>> {
    let undefined = Value::new_undefined(ctx.clone());
    let (name, value) = match promise.state() {
        PromiseState::Pending => ("pending", undefined),
        PromiseState::Resolved => ("fulfilled", promise.result().and_then(Result::ok).unwrap_or(undefined)),
        PromiseState::Rejected => match promise.result::<Value<'js>>() {
            Some(Err(_)) => ("rejected", ctx.catch()),
            _ => ("rejected", undefined),
        },
    };
    Ok(List((name, value)))
}

/// Output, environment and exit.
fn process<'js>(native: &Object<'js>, state: &Rc<State>) -> Result<()> {
    let stream = |number: u8| if number == 2 { Stream::Err } else { Stream::Out };
    let shared = Rc::clone(state);
    native.set(
        "write",
        Func::from(move |number: u8, text: String| shared.output.write(stream(number), text.as_bytes())),
    )?;
    let shared = Rc::clone(state);
    native.set(
        "writeBytes",
        Func::from(move |number: u8, bytes: TypedArray<'js, u8>| {
            shared.output.write(stream(number), &raw::copy(&bytes));
        }),
    )?;
    let shared = Rc::clone(state);
    native.set(
        "env",
        Func::from(move || {
            shared.env.borrow().iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect::<Vec<_>>()
        }),
    )?;
    let shared = Rc::clone(state);
    native.set("mapStack", Func::from(move |stack: String| shared.modules.map_stack(&stack)))?;
    let shared = Rc::clone(state);
    native.set(
        "exit",
        Func::from(move |ctx: Ctx<'js>, code: i32| -> Result<()> {
            shared.exit.set(Some(code));
            Err(raw::throw_uncatchable(&ctx, "the program has exited"))
        }),
    )?;
    let shared = Rc::clone(state);
    native.set("exitCode", Func::from(move |code: i32| shared.exit_code.set(code)))
}

fn timers<'js>(native: &Object<'js>, state: &Rc<State>) -> Result<()> {
    let shared = Rc::clone(state);
    native.set(
        "setTimer",
        Func::from(move |id: f64, milliseconds: f64, holding: bool| {
            shared.timers.borrow_mut().set(id as u64, deadline(milliseconds), holding);
        }),
    )?;
    let shared = Rc::clone(state);
    native.set("clearTimer", Func::from(move |id: f64| shared.timers.borrow_mut().clear(id as u64)))?;
    let shared = Rc::clone(state);
    native
        .set("holdTimer", Func::from(move |id: f64, holding: bool| shared.timers.borrow_mut().hold(id as u64, holding)))
}

/// What takes time: each starts an operation whose end arrives at the `complete` hook.
fn operations<'js>(native: &Object<'js>, state: &Rc<State>) -> Result<()> {
    let shared = Rc::clone(state);
    native.set(
        "fetch",
        Func::from(
            move |id: u32, method: String, url: String, headers: Vec<String>, body: Option<TypedArray<'js, u8>>| {
                let body = body.as_ref().map(raw::copy);
                let work = shared.net.borrow().fetch(Exchange { method, url, headers, body });
                start(&shared, id, work);
            },
        ),
    )?;
    let shared = Rc::clone(state);
    native.set(
        "readBody",
        Func::from(move |id: u32, resource: u32| {
            let work = shared.net.borrow_mut().read(resource);
            start(&shared, id, work);
        }),
    )?;
    let shared = Rc::clone(state);
    native.set("closeBody", Func::from(move |resource: u32| shared.net.borrow_mut().close(resource)))?;
    let shared = Rc::clone(state);
    native.set(
        "abort",
        Func::from(move |id: u32| {
            if let Some(task) = shared.operations.borrow_mut().remove(&id) {
                task.abort();
            }
        }),
    )
}

fn start(state: &State, id: u32, work: impl Future<Output = super::net::Outcome> + Send + 'static) {
    let completed = state.completed.clone();
    let task = tokio::spawn(async move {
        let outcome = work.await;
        // The loop is gone only when the program is.
        let _ended = completed.send(super::net::Completion { id, outcome });
    });
    state.operations.borrow_mut().insert(id, task.abort_handle());
}
