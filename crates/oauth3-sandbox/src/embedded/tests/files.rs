//! Several files: imports among them, and of nothing else.

use super::{job_of, run_job};

#[test]
fn files_import_each_other_by_relative_paths() {
    let ran = run_job(job_of(&[
        ("src/main.ts", b"import { twice } from '../lib/twice.ts';\nimport data from './data.json' with { type: 'json' };\nconst late = await import('./late.ts');\nconsole.log(twice<number>(data.n), late.url, import.meta.main)"),
        ("lib/twice.ts", b"import type { T } from './nowhere.ts';\nimport { two } from './two.js';\nexport const twice = <N extends number>(n: N): number => two * n;"),
        ("lib/two.js", b"export const two = 2;"),
        ("src/late.ts", b"export const url: string = import.meta.url + import.meta.main;"),
        ("src/data.json", b"{\"n\": 21}"),
    ]));
    assert_eq!((ran.code, ran.out.as_str()), (0, "42 file:///skill/src/late.tsfalse true\n"), "{}", ran.err);
}

#[test]
fn cycles_are_fine() {
    let ran = run_job(job_of(&[
        ("a.ts", b"import { b } from './b.ts'; export const a = () => 1; console.log(b())"),
        ("b.ts", b"import { a } from './a.ts'; export const b = () => a() + 1;"),
    ]));
    assert_eq!((ran.code, ran.out.as_str()), (0, "2\n"), "{}", ran.err);
}

#[test]
fn what_is_no_file_of_the_skill_is_refused_before_anything_runs() {
    for import in [
        "./other.ts",
        "../etc/x.ts",
        "../../proc/self/environ",
        "/etc/passwd",
        "file:///etc/passwd",
        "npm:x@1.0.0",
        "lib.ts",
        "./lib.ts?x",
        "./LIB.ts",
    ] {
        let main = "console.log('ran'); import './lib.ts'";
        let lib = format!("import '{import}'");
        let ran = run_job(job_of(&[("main.ts", main.as_bytes()), ("lib.ts", lib.as_bytes())]));
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{import}");
        assert!(ran.err.contains(&format!("\"{import}\" is refused")), "{}", ran.err);
        assert!(ran.err.contains("file:///skill/lib.ts:1:1"), "{}", ran.err);
        let late = format!("try {{ await import('{import}') }} catch (e) {{ console.log(e.message) }}");
        let ran = run_job(job_of(&[("main.ts", late.as_bytes()), ("lib.ts", b"1")]));
        assert!(ran.out.contains("is refused"), "{import}: {ran:?}");
    }
}

#[test]
fn errors_name_the_file_they_are_in() {
    let ran = run_job(job_of(&[("main.ts", b"import './lib.ts'"), ("lib.ts", b"let x: number = ;")]));
    assert!(ran.code == 1 && ran.err.contains("file:///skill/lib.ts:1:17"), "{}", ran.err);
    let ran = run_job(job_of(&[
        ("main.ts", b"import { f } from './lib.ts'; f()"),
        ("lib.ts", b"interface A { b: number }\n\nexport function f() {\n  throw new Error('boom');\n}"),
    ]));
    assert!(ran.err.contains("at f (file:///skill/lib.ts:4:"), "{}", ran.err);
    let ran = run_job(job_of(&[("main.ts", b"import x from './x.json'"), ("x.json", b"{")]));
    assert!(ran.code == 1 && ran.err.contains("x.json is not JSON"), "{}", ran.err);
}
