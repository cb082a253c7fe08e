//! Programs and what they print. The expected outputs in `programs/` are those of Deno 2.9 for the same programs.

use super::{EmbeddedJob, job, run, run_job};

/// Runs `programs/NAME.ts` and compares with `programs/NAME.out`.
macro_rules! programs {
    ($($name:ident exits $code:literal,)*) => {$(
        #[test]
        fn $name() {
            let ran = run(include_str!(concat!("programs/", stringify!($name), ".ts")));
            let expected = include_str!(concat!("programs/", stringify!($name), ".out"));
            similar(expected, &ran.out);
            assert_eq!(ran.code, $code, "{}", ran.err);
        }
    )*};
}

programs! {
    clone exits 0,
    console exits 0,
    crypto exits 0,
    errors exits 0,
    events exits 0,
    inspect exits 0,
    messages exits 0,
    process exits 7,
    streams exits 0,
    text exits 0,
    timers exits 0,
    typescript exits 0,
    url exits 0,
}

/// Tells the first line that differs, which is easier to read than two long texts.
fn similar(expected: &str, seen: &str) {
    let (mut wanted, mut got) = (expected.lines(), seen.lines());
    for number in 1.. {
        let pair = (wanted.next(), got.next());
        assert_eq!(pair.0, pair.1, "line {number}");
        if pair == (None, None) {
            return;
        }
    }
}

/// A program, its exit code, its standard output and the beginning of each line of its standard error.
fn check(source: &str, code: i32, out: &str, err: &[&str]) {
    let ran = run(source);
    assert_eq!((ran.code, ran.out.as_str()), (code, out), "{source}\n{}", ran.err);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines.len(), err.len(), "{source}\n{}", ran.err);
    for (line, start) in lines.iter().zip(err) {
        assert!(line.starts_with(start), "{source}\n{line:?} does not start with {start:?}");
    }
}

#[test]
fn a_program_sees_its_own_environment_only() {
    check(
        "console.log(Deno.env.toObject(), process.env.OPENAI_API_KEY)",
        0,
        "{ OPENAI_API_KEY: \"sk-placeholder\" } sk-placeholder\n",
        &[],
    );
}

#[test]
fn an_exit_code_is_handed_on() {
    check("process.exit(3)", 3, "", &[]);
    check("Deno.exit()", 0, "", &[]);
    check("process.exitCode = 4", 4, "", &[]);
    check("try { Deno.exit(5) } catch { console.log('caught') } finally { console.log('finally') }", 5, "", &[]);
    check("await Promise.resolve().then(() => Deno.exit(6)).catch(() => console.log('caught'))", 6, "", &[]);
}

#[test]
fn an_uncaught_error_ends_the_program_with_its_place() {
    check(
        "interface A { b: number }\n\nfunction f(a: A) {\n  throw new TypeError('boom');\n}\nf({ b: 1 });",
        1,
        "",
        &[
            "error: Uncaught (in promise) TypeError: boom",
            "    at f (file:///skill/main.ts:4:",
            "    at file:///skill/main.ts:6:",
        ],
    );
    check(
        "setTimeout(() => { throw new Error('late') }, 1)",
        1,
        "",
        &["error: Uncaught Error: late", "    at file:///skill/main.ts:1:"],
    );
    check("throw 'text'", 1, "", &["error: Uncaught (in promise) \"text\""]);
    check("throw null", 1, "", &["error: Uncaught (in promise) null"]);
    check(
        "Promise.reject({ a: 1 }); setTimeout(() => console.log('not reached'), 5)",
        1,
        "",
        &["error: Uncaught (in promise) { a: 1 }"],
    );
}

#[test]
fn a_rejection_that_is_handled_in_time_is_no_error() {
    check("const p = Promise.reject(1); await 0; p.catch((e) => console.log('took', e))", 0, "took 1\n", &[]);
    check(
        "addEventListener('unhandledrejection', (e) => { e.preventDefault(); console.log(e.reason) }); Promise.reject('r')",
        0,
        "r\n",
        &[],
    );
}

#[test]
fn next_tick_comes_before_timers() {
    check(
        "setTimeout(() => console.log('timer')); process.nextTick((x) => console.log('tick', x), 1)",
        0,
        "tick 1\ntimer\n",
        &[],
    );
}

#[test]
fn an_await_without_end_is_told() {
    check(
        "console.log('a'); await new Promise(() => {})",
        1,
        "a\n",
        &["error: Top-level await promise never resolved"],
    );
}

#[test]
fn hostile_changes_to_builtins_hurt_the_program_only() {
    let ran = run(
        "Error.prototype.toString = () => { throw 1 }; Object.prototype.then = 5; Array.prototype[Symbol.iterator] = null; throw new Error('hostile')",
    );
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("error: Uncaught (in promise)"), "{}", ran.err);
}

#[test]
fn memory_and_stack_are_limited() {
    for source in [
        "const a = []; for (;;) a.push(new Array(1000).fill('x' + a.length))",
        "new ArrayBuffer(1e9)",
        "let s = 'x'; for (;;) s += s + s.length",
    ] {
        let ran = run(source);
        assert_eq!(ran.code, 1, "{source}\n{}", ran.err);
        assert!(ran.err.starts_with("error: Uncaught"), "{source}\n{}", ran.err);
    }
    let ran = run("const a = []; for (;;) a.push(new Array(1000).fill('x' + a.length))");
    assert!(ran.err.contains("out of memory") && ran.err.contains("may use 56 MB"), "{}", ran.err);
    check("function f() { f() } try { f() } catch (e) { console.log(e.name) }", 0, "RangeError\n", &[]);
}

#[test]
fn a_limit_that_is_too_small_is_an_error() {
    for memory_bytes in [0, 1000, 100_000] {
        let ran = run_job(EmbeddedJob { memory_bytes, ..job("console.log(1)") });
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{memory_bytes}");
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
    }
}

#[test]
fn dynamic_imports_are_refused_with_the_mend() {
    for (specifier, mend) in [
        ("https://deno.land/x/mod.ts", "own files"),
        ("http://example.com/mod.ts", "own files"),
        ("npm:openai", "own files"),
        ("jsr:@std/path", "own files"),
        ("openai", "own files"),
        ("./other.ts", "in `files` too"),
        ("data:text/javascript,1", "own files"),
        ("node:fs", "runtime deno or node"),
        ("fs", "own files"),
    ] {
        let ran = run(&format!("try {{ await import('{specifier}') }} catch (e) {{ console.log(e.name, e.message) }}"));
        assert!(ran.out.starts_with(&format!("TypeError The import of \"{specifier}\" is refused")), "{}", ran.out);
        assert!(ran.out.contains(mend), "{}", ran.out);
    }
}

#[test]
fn what_is_left_out_says_so() {
    let ran = run("try { new Deno.Command('ls') } catch (e) { console.log(e.message) }");
    assert_eq!(ran.out, "Deno.Command is not part of the embedded runtime. Use runtime deno.\n");
}
