//! The crates of the load generator and the laboratory: which may use which, and that no modules of a crate import
//! each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Each crate, in the order in which data flows, and those of ours that it may use. All but the first stand in a
/// folder of `loadgen/`.
const ROOMS: [(&str, &[&str]); 6] = [
    ("engine", &[]),
    ("subject", &["engine"]),
    ("lab", &["engine", "subject"]),
    ("trace", &["engine", "subject"]),
    ("report", &["engine", "subject", "lab"]),
    ("loadgen", &["engine", "subject", "lab", "trace", "report"]),
];

/// Circles of modules that are natural: the modules of one circle, in alphabetical order, and why they may.
const NATURAL: [(&str, &[&str], &str); 0] = [];

fn folder(room: &str) -> PathBuf {
    match room {
        "loadgen" => PathBuf::from(ROOT),
        room => Path::new(ROOT).join(room),
    }
}

fn manifest(folder: &Path) -> toml::Table {
    let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    text.parse().unwrap()
}

/// Packages of the workspace that a manifest names in a table of dependencies.
fn ours_in(manifest: &toml::Table, table: &str, ours: &BTreeSet<String>) -> BTreeSet<String> {
    let names = manifest.get(table).and_then(toml::Value::as_table);
    let names = names.into_iter().flat_map(toml::Table::keys);
    names.filter(|name| ours.contains(*name)).cloned().collect()
}

/// The names of all packages of the workspace.
fn packages() -> BTreeSet<String> {
    let root = Path::new(ROOT).join("..");
    let workspace = manifest(&root);
    let dependencies = workspace["workspace"]["dependencies"].as_table().unwrap();
    let with_path = dependencies
        .iter()
        .filter(|(_, it)| it.get("path").is_some());
    let mut names: BTreeSet<String> = with_path.map(|(name, _)| name.clone()).collect();
    for folder in fs::read_dir(root.join("servers")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.join("Cargo.toml").is_file() {
            let manifest = manifest(&folder);
            if let Some(package) = manifest.get("package") {
                names.insert(package["name"].as_str().unwrap().to_owned());
            }
        }
    }
    names
}

/// Tests may use more, but nothing of `servers/` either: servers are reached as processes.
#[test]
fn each_crate_uses_only_those_above_it() {
    let ours = packages();
    for (room, _) in ROOMS {
        let is_known = ours.contains(room) || room == "loadgen";
        assert!(is_known, "{room} is not a package of the workspace");
    }
    for (room, may_use) in ROOMS {
        let manifest = manifest(&folder(room));
        assert_eq!(manifest["package"]["name"].as_str(), Some(room));
        let may_use: BTreeSet<String> = may_use.iter().map(|&it| it.to_owned()).collect();
        let uses = ours_in(&manifest, "dependencies", &ours);
        assert!(
            uses.is_subset(&may_use),
            "{room} uses {uses:?}, and may use {may_use:?}"
        );
        for table in ["dev-dependencies", "build-dependencies"] {
            let rooms = ROOMS.map(|(room, _)| room.to_owned());
            let uses = ours_in(&manifest, table, &ours);
            let stranger = uses.iter().find(|name| !rooms.contains(name));
            assert_eq!(stranger, None, "{room}, {table}");
        }
    }
}

/// The table of `loadgen/README.md` is in the order in which data flows.
#[test]
fn the_readme_lists_the_crates_in_this_order() {
    let text = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let section = text
        .split("\n## ")
        .find(|it| it.starts_with("Where its code is"));
    let rows = section.expect("a section on code").lines();
    let crates: Vec<&str> = rows
        .filter_map(|row| row.strip_prefix("| [`")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let rooms = ROOMS.map(|(room, _)| if room == "loadgen" { "src" } else { room });
    assert_eq!(crates, rooms);
}

/// Every room says what it is for, what it may know, and what is deliberately absent.
#[test]
fn each_crate_says_what_it_is() {
    for (room, _) in ROOMS {
        let source = folder(room).join("src");
        let root = ["lib.rs", "main.rs"].map(|name| source.join(name));
        let root = root.iter().find(|file| file.is_file()).unwrap();
        let text = fs::read_to_string(root).unwrap();
        let head: Vec<&str> = text
            .lines()
            .take_while(|it| it.starts_with("//!"))
            .collect();
        let head = head.join("\n");
        for part in ["**May know:**", "**Deliberately absent:**"] {
            assert!(head.contains(part), "{}: no {part}", root.display());
        }
    }
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let mut found = Vec::new();
    for (room, _) in ROOMS {
        for circle in Modules::of(&folder(room).join("src")).circles() {
            let modules: Vec<&str> = circle.iter().map(String::as_str).collect();
            let is_natural = NATURAL
                .iter()
                .any(|(of, it, _)| *of == room && *it == modules);
            if !is_natural {
                found.push(format!(
                    "{room}: {}",
                    circle.into_iter().collect::<Vec<_>>().join(" <-> ")
                ));
            }
        }
    }
    assert!(
        found.is_empty(),
        "modules import each other:\n{}",
        found.join("\n")
    );
}

/// A path of names within a crate; of the root, none.
type Name = Vec<String>;

/// The modules of a crate, and the paths that each of them mentions.
struct Modules {
    mentions: BTreeMap<Name, BTreeSet<Name>>,
    /// What `use` brings into a module under which name.
    imports: BTreeMap<Name, BTreeMap<String, Name>>,
}

impl Modules {
    fn of(source: &Path) -> Self {
        let mut modules = Modules {
            mentions: BTreeMap::new(),
            imports: BTreeMap::new(),
        };
        modules.read(source, source);
        modules
    }

    fn read(&mut self, source: &Path, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.read(source, &path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let mut name: Name = (path.strip_prefix(source).unwrap().with_extension("").iter())
                    .map(|part| part.to_str().unwrap().to_owned())
                    .collect();
                if matches!(
                    name.last().map(String::as_str),
                    Some("mod" | "lib" | "main")
                ) {
                    name.pop();
                }
                let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
                let mut reader = Reader {
                    module: name.clone(),
                    mentions: BTreeSet::new(),
                    imports: BTreeMap::new(),
                };
                reader.visit_file(&file);
                self.mentions.insert(name.clone(), reader.mentions);
                self.imports.insert(name, reader.imports);
            }
        }
    }

    /// The module that a path stands for: its longest part that is one, through what `use` brings in.
    fn module(&self, path: &[String], depth: usize) -> Name {
        let mut end = path.len();
        while end > 0 && !self.mentions.contains_key(&path[..end]) {
            end -= 1;
        }
        let module = path[..end].to_vec();
        let import = path
            .get(end)
            .and_then(|item| self.imports[&module].get(item));
        match import {
            // Names that import each other would go on for ever.
            Some(import) if depth < 8 => {
                let whole = [import.as_slice(), &path[end + 1..]].concat();
                self.module(&whole, depth + 1)
            }
            _ => module,
        }
    }

    /// Modules that share a parent and import each other, over others too. What a module and its own parts know of
    /// each other is no circle.
    fn circles(&self) -> Vec<BTreeSet<String>> {
        let mut uses: BTreeMap<Name, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (module, mentions) in &self.mentions {
            for mention in mentions {
                let other = self.module(mention, 0);
                let shared = module
                    .iter()
                    .zip(&other)
                    .take_while(|(a, b)| a == b)
                    .count();
                if let (Some(from), Some(to)) = (module.get(shared), other.get(shared)) {
                    let siblings = uses.entry(module[..shared].to_vec()).or_default();
                    siblings.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        let mut circles = Vec::new();
        for (parent, siblings) in &uses {
            let reach = |from: &String| {
                let mut seen = BTreeSet::new();
                let mut left = vec![from];
                while let Some(next) = left.pop() {
                    for to in siblings.get(next).into_iter().flatten() {
                        if seen.insert(to) {
                            left.push(to);
                        }
                    }
                }
                seen
            };
            let reached: BTreeMap<&String, BTreeSet<&String>> =
                siblings.keys().map(|name| (name, reach(name))).collect();
            let mut told: BTreeSet<&String> = BTreeSet::new();
            for (name, others) in &reached {
                if !others.contains(name) || told.contains(name) {
                    continue;
                }
                let circle: Vec<&String> = (reached.iter())
                    .filter(|(other, back)| others.contains(**other) && back.contains(name))
                    .map(|(other, _)| *other)
                    .collect();
                told.extend(&circle);
                let whole =
                    |name: &&String| [parent.as_slice(), &[(*name).clone()]].concat().join("::");
                circles.push(circle.iter().map(whole).collect());
            }
        }
        circles
    }
}

/// Gathers the paths of a file that begin with `crate`, `super` or `self`, without those of its tests.
struct Reader {
    module: Name,
    mentions: BTreeSet<Name>,
    imports: BTreeMap<String, Name>,
}

impl Reader {
    /// A path as written, from the root of the crate; none when it leads out of the crate.
    fn absolute(&self, path: &[String]) -> Option<Name> {
        let mut module = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        let mut rest = path.iter().peekable();
        while let Some(part) = rest.next_if(|it| ["crate", "self", "super"].contains(&it.as_str()))
        {
            if part == "super" {
                module.pop();
            }
        }
        module.extend(rest.cloned());
        Some(module)
    }

    fn mention(&mut self, path: &[String]) {
        self.mentions.extend(self.absolute(path));
    }

    /// The leaves of a `use`, each with the name that it gets.
    fn leaves(tree: &syn::UseTree, before: &[String], leaves: &mut Vec<(Name, String)>) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            syn::UseTree::Path(path) => {
                Self::leaves(&path.tree, &with(path.ident.to_string()), leaves);
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                leaves.push((before.to_vec(), before.last().cloned().unwrap_or_default()));
            }
            syn::UseTree::Name(name) => {
                leaves.push((with(name.ident.to_string()), name.ident.to_string()));
            }
            syn::UseTree::Rename(name) => {
                leaves.push((with(name.ident.to_string()), name.rename.to_string()));
            }
            syn::UseTree::Glob(_) => leaves.push((before.to_vec(), String::new())),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    Self::leaves(tree, before, leaves);
                }
            }
        }
    }

    /// Paths within the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Name = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.mention(&std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.mention(&std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.mention(&path);
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else {
            return false;
        };
        list.path.is_ident("cfg") && list.tokens.to_string().contains("test")
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if is_for_tests(&item.attrs) {
            return;
        }
        let mut leaves = Vec::new();
        Reader::leaves(&item.tree, &[], &mut leaves);
        for (path, name) in leaves {
            // A path without a prefix begins at a module beside, if there is one of that name.
            let relative = [&["self".to_owned()], path.as_slice()].concat();
            let is_absolute = ["crate", "self", "super"].contains(&path[0].as_str());
            let path = if is_absolute { path } else { relative };
            if let Some(whole) = self.absolute(&path) {
                self.mentions.insert(whole.clone());
                self.imports.insert(name, whole);
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Name = path
            .segments
            .iter()
            .map(|it| it.ident.to_string())
            .collect();
        self.mention(&names);
        // A module that `use` brought in by its name.
        if let Some(import) = names.first().and_then(|first| self.imports.get(first)) {
            let whole = [import.as_slice(), &names[1..]].concat();
            self.mentions.insert(whole);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
    }
}

/// The test finds what it is there to find.
#[test]
fn a_circle_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod a; mod b; mod c; pub use b::B;");
    // Through a name that the root brings in, and within a macro.
    write(
        "a.rs",
        "use crate::B; fn f() { println!(\"{}\", crate::c::C); }",
    );
    write("b/mod.rs", "pub mod inner; pub struct B;");
    write("b/inner.rs", "fn f() -> super::super::a::A { loop {} }");
    write(
        "c.rs",
        "use super::b; #[cfg(test)] mod tests { use crate::a; }",
    );
    let circles = Modules::of(folder.path()).circles();
    let expected = BTreeSet::from(["a", "b", "c"].map(str::to_owned));
    assert_eq!(circles, [expected]);
    // Without the way back there is none; what a part knows of its whole does not count.
    write("b/inner.rs", "use super::B;");
    assert_eq!(
        Modules::of(folder.path()).circles(),
        Vec::<BTreeSet<String>>::new()
    );
}
