//! The event loop: evaluate the module, then jobs, timers and finished operations until nothing is left.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rquickjs::context::EvalOptions;
use rquickjs::promise::PromiseState;
use rquickjs::{CatchResultExt, CaughtError, Context, Ctx, Exception, Function, Object, Persistent};
use rquickjs::{Promise, Runtime, TypedArray, Value};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::AbortHandle;

use super::modules::{self, Modules, OwnFiles};
use super::net::{Completion, Net, Outcome};
use super::output::Output;
use super::timers::Timers;
use super::{EXIT_FAILED, EmbeddedJob, natives, raw};

/// Stack that the engine lets JavaScript use, in bytes; well below the stack of its thread.
const JS_STACK_BYTES: usize = 4 << 20;

/// Share of the memory limit that is kept for the process around the engine: one part in this many, …
const OUTSIDE_SHARE: u64 = 8;

/// … but not more than this, in bytes.
const OUTSIDE_BYTES_MAX: u64 = 16 << 20;

/// Extra heap, in bytes, that is granted once to describe the error that ended a program.
const LAST_WORDS_BYTES: u64 = 8 << 20;

/// A program that is compiled and never run.
const WARM_UP: &str = "const text: string = `a ${1 + 1}`; console.log(text); export {};";

/// The part of the prelude that every program needs.
const CORE_JS: &str = include_str!("js/core.js");

/// What the native functions share with the event loop.
pub(super) struct State {
    pub(super) output: Output,
    pub(super) env: RefCell<Vec<(String, String)>>,
    pub(super) modules: Rc<Modules>,
    pub(super) exit: Cell<Option<i32>>,
    pub(super) exit_code: Cell<i32>,
    pub(super) timers: RefCell<Timers>,
    pub(super) operations: RefCell<HashMap<u32, AbortHandle>>,
    pub(super) net: RefCell<Net>,
    pub(super) completed: UnboundedSender<Completion>,
}

/// Makes an engine, takes the program, runs it to its end and returns its exit code.
pub(super) fn run(take: impl FnOnce() -> Option<EmbeddedJob>, output: Output) -> i32 {
    let tokio = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(tokio) => tokio,
        Err(error) => {
            output.error_line(&format!("error: the embedded runtime cannot start: {error}"));
            return EXIT_FAILED;
        }
    };
    let (completed, completions) = unbounded_channel();
    let state = Rc::new(State {
        output: output.clone(),
        env: RefCell::default(),
        modules: Rc::default(),
        exit: Cell::new(None),
        exit_code: Cell::new(0),
        timers: RefCell::default(),
        operations: RefCell::default(),
        net: RefCell::default(),
        completed,
    });
    let code = match Engine::new(state, completions) {
        Ok(mut engine) => {
            let code = take().map_or(EXIT_FAILED, |job| tokio.block_on(engine.run(job)));
            // The process ends now; see `run_with`.
            std::mem::forget(engine);
            code
        }
        Err(error) => {
            output.error_line(&format!("error: the embedded runtime cannot start: {error}"));
            EXIT_FAILED
        }
    };
    tokio.shutdown_background();
    code
}

/// Does what a first program does once in a process, for a process that has time for it.
pub(super) fn warm_up() {
    // The outcome is of no interest.
    let _ = super::script::compile("warm-up", WARM_UP.as_bytes(), &|_| false);
}

/// Functions of the prelude that the event loop calls.
#[derive(Clone)]
struct Hooks {
    fire: Persistent<Function<'static>>,
    complete: Persistent<Function<'static>>,
    uncaught: Persistent<Function<'static>>,
}

/// Promises that were rejected while nothing handled them, with their reasons.
type Rejections = Rc<RefCell<Vec<(Persistent<Value<'static>>, Persistent<Value<'static>>)>>>;

struct Engine {
    runtime: Runtime,
    context: Context,
    state: Rc<State>,
    hooks: Hooks,
    rejections: Rejections,
    completions: UnboundedReceiver<Completion>,
    /// Of the program; nothing is counted before there is one.
    memory_bytes: u64,
}

/// Why a turn of the loop stops the program: its exit code.
struct Stop(i32);

impl Engine {
    fn new(state: Rc<State>, completions: UnboundedReceiver<Completion>) -> Result<Self, rquickjs::Error> {
        let runtime = Runtime::new()?;
        runtime.set_max_stack_size(JS_STACK_BYTES);
        let own = OwnFiles(Rc::clone(&state.modules));
        runtime.set_loader(own.clone(), own);
        let exiting = Rc::clone(&state);
        runtime.set_interrupt_handler(Some(Box::new(move || exiting.exit.get().is_some())));
        let rejections = Rejections::default();
        let list = Rc::clone(&rejections);
        runtime.set_host_promise_rejection_tracker(Some(Box::new(move |ctx, promise, reason, handled| {
            note_rejection(&list, &ctx, promise, reason, handled);
        })));
        let context = Context::full(&runtime)?;
        let hooks = context.with(|ctx| {
            let native = natives::object(&ctx, &state)?;
            let mut options = EvalOptions::default();
            options.filename = Some("oauth3:core".to_owned());
            let prelude: Function<'_> = ctx.eval_with_options(CORE_JS, options)?;
            let hooks: Object<'_> = prelude.call((native,))?;
            let hook = |name: &str| hooks.get::<_, Function<'_>>(name).map(|hook| Persistent::save(&ctx, hook));
            Ok::<_, rquickjs::Error>(Hooks {
                fire: hook("fire")?,
                complete: hook("complete")?,
                uncaught: hook("uncaught")?,
            })
        })?;
        Ok(Self { runtime, context, state, hooks, rejections, completions, memory_bytes: 0 })
    }

    async fn run(&mut self, job: EmbeddedJob) -> i32 {
        let ended = match self.begin(job) {
            Ok(entry) => self.run_to_end(&entry).await,
            Err(stop) => Err(stop),
        };
        match ended {
            Ok(()) => self.state.exit_code.get(),
            Err(Stop(code)) => code,
        }
    }

    /// Takes on what belongs to one program, and compiles it. Gives the address of the file that runs.
    fn begin(&mut self, job: EmbeddedJob) -> Result<String, Stop> {
        let EmbeddedJob { files, entry, env, proxy_port, proxy_key, memory_bytes } = job;
        // The engine takes a limit of 0 for none.
        self.memory_bytes = (memory_bytes - (memory_bytes / OUTSIDE_SHARE).min(OUTSIDE_BYTES_MAX)).max(1);
        self.runtime.set_memory_limit(usize::try_from(self.memory_bytes).unwrap_or(usize::MAX));
        self.context.with(|ctx| raw::restart_clock(&ctx));
        *self.state.env.borrow_mut() = env;
        *self.state.net.borrow_mut() = Net::new(proxy_port, proxy_key);
        self.state.modules.set(files);
        self.state.modules.compile(&entry).map_err(|message| {
            self.state.output.error_line(&message);
            Stop(EXIT_FAILED)
        })
    }

    async fn run_to_end(&mut self, entry: &str) -> Result<(), Stop> {
        let main = self.start(entry)?;
        let mut main_pending = true;
        loop {
            self.run_jobs()?;
            if main_pending {
                main_pending = self.check_main(&main)?;
            }
            self.check_rejections()?;
            let due = self.state.timers.borrow_mut().take_due(Instant::now());
            if let Some(id) = due {
                self.call(|ctx, hooks| hooks.fire.restore(ctx)?.call::<_, ()>((id,)))?;
                // A program may set timers without end while it waits for an operation.
                tokio::task::yield_now().await;
                self.run_jobs()?;
                if let Ok(completion) = self.completions.try_recv() {
                    self.complete(completion)?;
                }
            } else if let Some(completion) = self.next_completion().await {
                self.complete(completion)?;
            } else if !self.is_alive() {
                break;
            }
        }
        if main_pending {
            self.state.output.error_line("error: Top-level await promise never resolved");
            return Err(Stop(EXIT_FAILED));
        }
        Ok(())
    }

    /// Declares and starts the module; its promise tells when it is done.
    fn start(&self, entry: &str) -> Result<Persistent<Promise<'static>>, Stop> {
        self.call(|ctx, _| {
            let code = self.state.modules.take(entry).map_err(|message| Exception::throw_syntax(ctx, &message))?;
            let (_, promise) = modules::declare(ctx, entry, code, true)?.eval()?;
            Ok(Persistent::save(ctx, promise))
        })
    }

    /// Whether anything could still happen.
    fn is_alive(&self) -> bool {
        self.state.timers.borrow().is_holding() || !self.state.operations.borrow().is_empty()
    }

    /// Waits for the next finished operation; `None` when a timer is due first or nothing is left to wait for.
    async fn next_completion(&mut self) -> Option<Completion> {
        if !self.is_alive() {
            return None;
        }
        let next = self.state.timers.borrow().next();
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            biased;
            completion = self.completions.recv() => completion,
            () = timer => None,
        }
    }

    /// Hands a finished operation to the code that waits for it, unless it was aborted meanwhile.
    fn complete(&self, completion: Completion) -> Result<(), Stop> {
        let Completion { id, outcome } = completion;
        if self.state.operations.borrow_mut().remove(&id).is_none() {
            return Ok(());
        }
        let state = Rc::clone(&self.state);
        self.call(move |ctx, hooks| {
            let complete = hooks.complete.restore(ctx)?;
            match outcome {
                Outcome::Failed(message) => complete.call::<_, ()>((id, message)),
                Outcome::Head { head, body } => {
                    let value = Object::new(ctx.clone())?;
                    value.set("status", head.status.as_u16())?;
                    value.set("statusText", head.status.canonical_reason().unwrap_or_default())?;
                    value.set("headers", super::net::flat_headers(&head.headers))?;
                    value.set("body", state.net.borrow_mut().keep(body))?;
                    complete.call::<_, ()>((id, rquickjs::Undefined, value))
                }
                Outcome::Chunk { resource, body, bytes } => {
                    state.net.borrow_mut().put_back(resource, body);
                    complete.call::<_, ()>((id, rquickjs::Undefined, TypedArray::new(ctx.clone(), bytes.to_vec())?))
                }
                Outcome::End => complete.call::<_, ()>((id, rquickjs::Undefined, rquickjs::Null)),
            }
        })
    }

    /// Runs all jobs that promises have queued.
    fn run_jobs(&self) -> Result<(), Stop> {
        loop {
            let more = self.runtime.execute_pending_job();
            if let Some(code) = self.state.exit.get() {
                return Err(Stop(code));
            }
            match more {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(_) => self.context.with(|ctx| {
                    let error = ctx.catch();
                    self.uncaught(&ctx, error, None)
                })?,
            }
        }
    }

    /// Whether the module is still running. An error that it threw ends the program.
    fn check_main(&self, main: &Persistent<Promise<'static>>) -> Result<bool, Stop> {
        self.context.with(|ctx| {
            let Ok(promise) = main.clone().restore(&ctx) else { return Ok(true) };
            match promise.state() {
                PromiseState::Pending => Ok(true),
                PromiseState::Resolved => Ok(false),
                PromiseState::Rejected => {
                    let error = match promise.result::<Value<'_>>() {
                        Some(Err(_)) => ctx.catch(),
                        _ => Value::new_undefined(ctx.clone()),
                    };
                    self.rejections.borrow_mut().clear();
                    self.uncaught(&ctx, error, Some(promise)).map(|()| false)
                }
            }
        })
    }

    /// A rejection that nothing handles ends the program.
    fn check_rejections(&self) -> Result<(), Stop> {
        let rejections = std::mem::take(&mut *self.rejections.borrow_mut());
        rejections.into_iter().try_for_each(|(promise, reason)| {
            self.context.with(|ctx| match (promise.restore(&ctx), reason.restore(&ctx)) {
                (Ok(promise), Ok(reason)) => self.uncaught(&ctx, reason, promise.into_promise()),
                _ => Err(Stop(EXIT_FAILED)),
            })
        })
    }

    /// Runs `work` in the engine. An exception out of it ends the program.
    fn call<R>(&self, work: impl for<'js> FnOnce(&Ctx<'js>, Hooks) -> rquickjs::Result<R>) -> Result<R, Stop> {
        self.context.with(|ctx| {
            let result = work(&ctx, self.hooks.clone()).catch(&ctx);
            if let Some(code) = self.state.exit.get() {
                return Err(Stop(code));
            }
            match result {
                Ok(value) => Ok(value),
                Err(CaughtError::Exception(error)) => self.end(&ctx, error.into_object().into_value(), None),
                Err(CaughtError::Value(error)) => self.end(&ctx, error, None),
                Err(CaughtError::Error(error)) => {
                    self.state.output.error_line(&format!("error: {error}"));
                    Err(Stop(EXIT_FAILED))
                }
            }
        })
    }

    /// Reports an error and stops, whether or not a listener of the program wanted to see it.
    fn end<'js, R>(&self, ctx: &Ctx<'js>, error: Value<'js>, promise: Option<Promise<'js>>) -> Result<R, Stop> {
        self.uncaught(ctx, error, promise)?;
        Err(Stop(EXIT_FAILED))
    }

    /// Reports an error that nothing caught, unless a listener of the program takes it.
    fn uncaught<'js>(&self, ctx: &Ctx<'js>, error: Value<'js>, promise: Option<Promise<'js>>) -> Result<(), Stop> {
        raw::set_memory_limit(ctx, self.memory_bytes.saturating_add(LAST_WORDS_BYTES));
        let in_promise = promise.is_some();
        let hook = self.hooks.clone().uncaught.restore(ctx);
        let told = hook.and_then(|hook| hook.call::<_, Option<String>>((error.clone(), promise)));
        if let Some(code) = self.state.exit.get() {
            return Err(Stop(code));
        }
        let text = match told {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(()),
            Err(_) => plain_description(ctx, &error),
        };
        let kind = if in_promise { "Uncaught (in promise) " } else { "Uncaught " };
        self.state.output.error_line(&format!("error: {kind}{text}"));
        if text.contains("out of memory") {
            let megabytes = self.memory_bytes >> 20;
            self.state.output.error_line(&format!("    help: the code may use {megabytes} MB of memory"));
        }
        Err(Stop(EXIT_FAILED))
    }
}

/// Keeps track of promises that are rejected and not handled.
fn note_rejection<'js>(list: &Rejections, ctx: &Ctx<'js>, promise: Value<'js>, reason: Value<'js>, handled: bool) {
    if !handled {
        list.borrow_mut().push((Persistent::save(ctx, promise), Persistent::save(ctx, reason)));
        return;
    }
    list.borrow_mut().retain(|(rejected, _)| match rejected.clone().restore(ctx) {
        Ok(rejected) => rejected != promise,
        Err(_) => true,
    });
}

/// What can be said about an error without running any JavaScript.
fn plain_description<'js>(ctx: &Ctx<'js>, error: &Value<'js>) -> String {
    let _pending = ctx.catch();
    match error.as_object().and_then(|object| object.get::<_, String>("message").ok()) {
        Some(message) => message,
        None if error.is_null() => "out of memory".to_owned(),
        None => "a value that cannot be shown".to_owned(),
    }
}

/// What a sleep of a timer may be at most; longer ones are cut by the prelude already.
pub(super) fn deadline(milliseconds: f64) -> Instant {
    let now = Instant::now();
    let wait = Duration::try_from_secs_f64(milliseconds.max(0.0) / 1000.0).unwrap_or_default();
    now.checked_add(wait).unwrap_or(now)
}
