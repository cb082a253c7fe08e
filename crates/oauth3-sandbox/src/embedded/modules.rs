//! The modules of one skill: its own files and nothing else, by their addresses below `file:///skill/`.

use super::script::{self, Positions, Script};
use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Exception, Module};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use url::Url;

/// Where the files are, as the code sees it: in stack traces and in `import.meta.url`.
pub(super) const BASE: &str = "file:///skill/";

/// What a skill can import.
#[derive(Default)]
pub(super) struct Modules {
    files: RefCell<BTreeMap<String, Vec<u8>>>,
    /// Compiled, not yet taken by the engine.
    ready: RefCell<BTreeMap<String, String>>,
    positions: RefCell<Positions>,
}

impl Modules {
    /// Says which files there are.
    pub(super) fn set(&self, files: BTreeMap<String, Vec<u8>>) {
        *self.files.borrow_mut() = files;
    }

    /// Compiles a file and all that it imports statically, so that nothing runs when a part of it is wrong. Gives
    /// the address of the file.
    ///
    /// # Errors
    /// A message for the owner of the code, with file, line and column.
    pub(super) fn compile(&self, entry: &str) -> Result<String, String> {
        let address = format!("{BASE}{entry}");
        let mut wanted = vec![address.clone()];
        while let Some(name) = wanted.pop() {
            if self.ready.borrow().contains_key(&name) {
                continue;
            }
            let script = self.read(&name)?;
            wanted.extend(script.imports.iter().filter_map(|import| self.resolve(&name, import)));
            self.positions.borrow_mut().add(&name, script.marks);
            self.ready.borrow_mut().insert(name, script.code);
        }
        Ok(address)
    }

    /// The compiled code of a module; a module that only a dynamic import names is compiled now.
    ///
    /// # Errors
    /// As [`Modules::compile`].
    pub(super) fn take(&self, name: &str) -> Result<String, String> {
        if let Some(code) = self.ready.borrow_mut().remove(name) {
            return Ok(code);
        }
        let script = self.read(name)?;
        self.positions.borrow_mut().add(name, script.marks);
        Ok(script.code)
    }

    /// Rewrites a stack trace of the engine: positions become those of the source.
    pub(super) fn map_stack(&self, stack: &str) -> String {
        self.positions.borrow().map_stack(stack)
    }

    fn read(&self, name: &str) -> Result<Script, String> {
        let files = self.files.borrow();
        let file = name.strip_prefix(BASE).and_then(|path| files.get(path));
        let source = file.ok_or_else(|| format!("error: There is no file {name} in this skill"))?;
        if name.ends_with(".json") {
            return script::json(name, source);
        }
        script::compile(name, source, &|import| self.resolve(name, import).is_some())
    }

    /// The address of what `specifier` means in the module `base`; `None` when that is no file of the skill.
    fn resolve(&self, base: &str, specifier: &str) -> Option<String> {
        if !["./", "../", BASE].iter().any(|start| specifier.starts_with(start)) {
            return None;
        }
        let url = Url::parse(base).ok()?.join(specifier).ok()?;
        let path = url.as_str().strip_prefix(BASE)?;
        self.files.borrow().contains_key(path).then(|| url.as_str().to_owned())
    }
}

/// Answers the engine's imports: only what was approved runs.
#[derive(Clone)]
pub(super) struct OwnFiles(pub(super) Rc<Modules>);

impl Resolver for OwnFiles {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<String> {
        self.0.resolve(base, name).ok_or_else(|| Exception::throw_type(ctx, &script::import_refusal(name)))
    }
}

impl Loader for OwnFiles {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> rquickjs::Result<Module<'js, Declared>> {
        let code = self
            .0
            .take(name)
            .map_err(|message| Exception::throw_syntax(ctx, message.strip_prefix("error: ").unwrap_or(&message)))?;
        declare(ctx, name, code, false)
    }
}

/// Declares a module and says where it is.
pub(super) fn declare<'js>(
    ctx: &Ctx<'js>,
    name: &str,
    code: String,
    main: bool,
) -> rquickjs::Result<Module<'js, Declared>> {
    let module = Module::declare(ctx.clone(), name, code)?;
    let path = name.strip_prefix("file://").unwrap_or(name);
    let meta = module.meta()?;
    meta.set("url", name)?;
    meta.set("main", main)?;
    meta.set("filename", path)?;
    meta.set("dirname", path.rsplit_once('/').map_or("/", |(directory, _)| directory))?;
    Ok(module)
}
