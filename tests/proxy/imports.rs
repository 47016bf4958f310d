//! No import cycles between the files of a folder.
//!
//! Each file of `src/` is a node. A path in a file, in a `use` or in code, is an edge to the file
//! that defines its item; re-exports are followed. A file may name items of its own ancestors
//! (`use super::Limits`), since a module and its submodules are one unit. It may not name a sibling
//! that names it in return, directly or through others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};

use crate::architecture::{SRC, sources};

/// Folders, and how many of their files are part of a cycle. The numbers may only shrink.
const FOLDERS: [(&str, usize); 4] = [("http", 0), ("inputs", 0), ("outputs", 0), ("store", 0)];

/// A path of module names from the crate's root: `["store", "page"]`.
type Module = Vec<String>;

#[test]
fn folders_have_no_import_cycles() {
    let all = Sources::read().edges();
    for (folder, known) in FOLDERS {
        let mut edges = all.clone();
        edges.retain(|module, _| module.first().is_some_and(|first| first == folder));
        let reached: BTreeMap<&Module, BTreeSet<&Module>> = edges
            .keys()
            .map(|module| (module, reachable(module, &edges)))
            .collect();
        let is_cycle = |from: &Module, to: &Module| {
            reached[from].contains(to) && reached.get(to).is_some_and(|set| set.contains(from))
        };
        let cyclic: Vec<&&Module> = reached
            .keys()
            .filter(|module| is_cycle(module, module))
            .collect();
        let mut imports = String::new();
        for from in &cyclic {
            for to in edges[**from].iter().filter(|to| is_cycle(from, to)) {
                imports += &format!("  {} names {}\n", from.join("::"), to.join("::"));
            }
        }
        assert!(
            cyclic.len() <= known,
            "{} files of {folder} are part of an import cycle, {known} are known:\n{imports}",
            cyclic.len()
        );
    }
}

#[test]
fn cycles_are_found_through_re_exports() {
    let sources = Sources::of([
        ("a", "pub use b::{B, c::C}; pub struct A;"),
        ("a/b", "use super::{A, d}; pub struct B(d::D);"),
        ("a/b/c", "pub struct C;"),
        ("a/d", "pub struct D; fn f(c: crate::a::C) { super::e::E; }"),
        (
            "a/e",
            "use crate::a::B;\n#[cfg(test)] mod tests { use crate::a::d; }",
        ),
    ]);
    let edges = sources.edges();
    let named = |path| edges[&module_of(path)].clone();
    let modules = |paths: &[&str]| paths.iter().map(|path| module_of(path)).collect();
    assert_eq!(named("a"), modules(&["a/b", "a/b/c"]));
    assert_eq!(named("a/b"), modules(&["a/d"]), "its parent is left out");
    assert_eq!(named("a/d"), modules(&["a/b/c", "a/e"]));
    assert_eq!(named("a/e"), modules(&["a/b"]), "its tests are left out");
    assert!(reachable(&module_of("a/b"), &edges).contains(&module_of("a/b")));
    assert!(!reachable(&module_of("a"), &edges).contains(&module_of("a")));
}

/// The modules of `edges` that can be reached by one or more of them.
fn reachable<'e>(
    from: &Module,
    edges: &'e BTreeMap<Module, BTreeSet<Module>>,
) -> BTreeSet<&'e Module> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&Module> = edges[from].iter().collect();
    while let Some(module) = open.pop() {
        if let Some(next) = edges.get(module)
            && reached.insert(module)
        {
            open.extend(next);
        }
    }
    reached
}

/// The modules of a crate that are files, without tests.
pub struct Sources(BTreeMap<Module, Named>);

impl Sources {
    pub fn read() -> Self {
        let src = Path::new(SRC);
        let files = sources(src).into_iter().map(|path| {
            let inside = path.strip_prefix(src).unwrap().with_extension("");
            let text = fs::read_to_string(&path).unwrap();
            (inside.to_str().unwrap().to_owned(), text)
        });
        Sources::of(files)
    }

    /// Whether a file, by its path inside `src/`, is compiled for tests only.
    pub fn is_test(&self, inside: &Path) -> bool {
        !self
            .0
            .contains_key(&module_of(inside.with_extension("").to_str().unwrap()))
    }

    /// From paths inside `src/`, without `.rs`, and texts.
    fn of<P: AsRef<str>, T: AsRef<str>>(files: impl IntoIterator<Item = (P, T)>) -> Self {
        let mut modules = BTreeMap::new();
        for (path, text) in files {
            let module = module_of(path.as_ref());
            let file = syn::parse_file(text.as_ref()).unwrap();
            let mut named = Named::default();
            named.visit_file(&file);
            modules.insert(module, named);
        }
        let tests: Vec<Module> = modules
            .iter()
            .flat_map(|(module, named)| {
                let child = |name: &String| [&module[..], std::slice::from_ref(name)].concat();
                named.tests.iter().map(child)
            })
            .collect();
        modules.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        Sources(modules)
    }

    /// The modules that each module names, except itself and its ancestors.
    fn edges(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        self.0
            .iter()
            .map(|(module, named)| {
                let paths = named.uses.iter().chain(&named.paths);
                let targets = paths
                    .filter_map(|path| self.defining(&self.absolute(module, path)?, 0))
                    .filter(|target| !module.starts_with(target))
                    .collect();
                (module.clone(), targets)
            })
            .collect()
    }

    /// A path from the crate's root; `None` if it leads into another crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let mut base = module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {}
            name => {
                let child = [&module[..], &[name.to_owned()]].concat();
                if !self.0.contains_key(&child) {
                    return None;
                }
            }
        }
        while rest.first().is_some_and(|name| name == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend(rest.iter().filter(|name| *name != "self").cloned());
        Some(base)
    }

    /// The module that defines the item of a path.
    fn defining(&self, path: &[String], depth: usize) -> Option<Module> {
        /// A limit on nested re-exports, larger than any here.
        const DEEPEST: usize = 8;

        let length = (0..=path.len())
            .rev()
            .find(|end| self.0.contains_key(&path[..*end]))?;
        let (module, item) = (path[..length].to_vec(), path.get(length));
        let Some(item) = item else {
            return Some(module);
        };
        let uses = self.0[&module].uses.iter();
        for imported in uses.filter(|used| used.last() == Some(item) && depth < DEEPEST) {
            let Some(mut imported) = self.absolute(&module, imported) else {
                continue;
            };
            imported.extend_from_slice(&path[length + 1..]);
            if imported != path
                && let Some(found) = self.defining(&imported, depth + 1)
            {
                return Some(found);
            }
        }
        Some(module)
    }
}

/// The module of a file, by its path inside `src/` without `.rs`.
fn module_of(path: &str) -> Module {
    let mut module: Module = path.split('/').map(str::to_owned).collect();
    if matches!(module.last().unwrap().as_str(), "mod" | "lib" | "main") {
        module.pop();
    }
    module
}

/// The paths in a file, as written.
#[derive(Default)]
struct Named {
    uses: BTreeSet<Vec<String>>,
    paths: BTreeSet<Vec<String>>,
    /// Modules that are compiled for tests only.
    tests: Vec<String>,
}

impl Named {
    fn add_uses(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_uses(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => {
                self.uses.insert(with(&name.ident));
            }
            // The name in the other module counts; no re-export here renames.
            syn::UseTree::Rename(name) => {
                self.uses.insert(with(&name.ident));
            }
            syn::UseTree::Glob(_) => {
                self.uses.insert(before.to_vec());
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_uses(tree, before);
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute
                    .parse_args::<syn::Path>()
                    .is_ok_and(|path| path.is_ident("test"))
        });
        if is_test {
            self.tests.push(item.ident.to_string());
        } else {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_uses(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let names = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string());
            self.paths.insert(names.collect());
        }
        visit::visit_path(self, path);
    }
}
