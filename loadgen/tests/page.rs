//! `loadgen report`: the page, looked at by a browser, and the pictures.

mod browser;
mod laboratory;

use std::fs;
use std::path::Path;
use std::process::Command;

use browser::Browser;
use serde_json::{Value, json};

/// Runs `loadgen report` with these arguments in a folder.
fn report(folder: &Path, args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .arg("report")
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The made-up set and its page in a folder of their own.
fn page() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let set = laboratory::write(folder.path());
    let name = set.file_name().unwrap().to_str().unwrap();
    report(folder.path(), &[name, "--html", "page.html"]);
    let file = folder.path().join("page.html");
    // To be looked at.
    if let Some(kept) = std::env::var_os("LOADGEN_TEST_PAGE") {
        fs::copy(&file, kept).unwrap();
    }
    (folder, file)
}

#[test]
fn the_page_in_a_browser() {
    let (_folder, file) = page();
    let Some(mut browser) = Browser::start() else {
        println!("SKIPPED: no chromium is installed, so no page was looked at");
        return;
    };
    browser.open(&file);
    // Charts are drawn when they come into view.
    let visit = "(async () => {
        for (const it of document.querySelectorAll('.plot')) {
            it.scrollIntoView({ block: 'center' });
            while (it.dataset.drawn !== 'true') await new Promise(next => setTimeout(next, 5));
        }
        return [...document.querySelectorAll('.plot')]
            .filter(it => it.querySelector('.cartesianlayer .xy')).length;
    })()";
    let drawn = browser.evaluate(visit);
    // 4 by connections, 2 by rate, 1 by workload, a curve for each of 19 workloads, and 3 of the ledger.
    let charts = browser.evaluate("document.querySelectorAll('.plot').length");
    assert_eq!(charts, json!(4 + 2 + 1 + 19 + 19 * 3));
    assert_eq!(drawn, charts);
    let empty = browser.evaluate(
        "[...document.querySelectorAll('.plot')]\
         .filter(it => !it.querySelector('.trace, .point, .scatterlayer path')).map(it => it.id)",
    );
    assert_eq!(empty, json!([]), "a chart shows nothing");

    // A server is switched off everywhere, with the keyboard alone: in what is in view and in what comes.
    let shown = "[...document.querySelectorAll('.plot')].filter(it => it.dataset.drawn === 'true')\
                 .filter(it => it.data.some(trace => trace.legendgroup === 'event-loop' || \
                 trace.y.includes?.('event-loop'))).length";
    let drawn = "document.querySelectorAll('.plot[data-drawn=true]').length";
    let far = "document.querySelector('#cpu-by-workload').scrollIntoView()";
    assert_eq!(browser.evaluate(shown), charts);
    browser.evaluate("document.querySelector('input[data-server=\"event-loop\"]').focus()");
    browser.press(" ", " ");
    browser.wait(&format!("0 < {drawn} && {drawn} < {charts}"));
    assert_eq!(browser.evaluate(shown), json!(0));
    browser.evaluate(far);
    browser.wait("document.querySelector('#cpu-by-workload').dataset.drawn === 'true'");
    assert_eq!(browser.evaluate(shown), json!(0));
    browser.press(" ", " ");
    browser.wait(&format!("{drawn} > 0 && {shown} === {drawn}"));

    // Dark and light.
    let paper = "getComputedStyle(document.body).backgroundColor";
    let ink = "document.querySelector('#cpu-by-workload').layout.font.color";
    let light = (browser.evaluate(paper), browser.evaluate(ink));
    browser.evaluate("document.getElementById('theme').focus()");
    browser.press("Enter", "\r");
    let dark = (browser.evaluate(paper), browser.evaluate(ink));
    assert_ne!(light.0, dark.0);
    assert_ne!(light.1, dark.1);
    browser.press("Enter", "\r");
    assert_eq!((browser.evaluate(paper), browser.evaluate(ink)), light);
    // What the system prefers.
    let prefer = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.evaluate("delete document.documentElement.dataset.theme");
    browser.call("Emulation.setEmulatedMedia", prefer);
    assert_eq!(browser.evaluate(paper), dark.0);

    // On a phone nothing is wider than the window but what scrolls by itself.
    let phone = json!({ "width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": true });
    browser.call("Emulation.setDeviceMetricsOverride", phone);
    browser.evaluate(visit);
    let width = browser.evaluate("document.documentElement.scrollWidth");
    assert!(width.as_u64().unwrap() <= 360, "{width}");

    // Every link within the page leads somewhere, and no id is there twice.
    let lost = "[...document.querySelectorAll('a[href^=\"#\"]')].map(it => it.getAttribute('href'))\
                .filter(it => !document.getElementById(it.slice(1)))";
    assert_eq!(browser.evaluate(lost), json!([]));
    let twice = "(ids => ids.filter((id, at) => ids.indexOf(id) !== at))\
                 ([...document.querySelectorAll('main [id]:not(svg [id])')].map(it => it.id))";
    assert_eq!(browser.evaluate(twice), json!([]));
    let unnamed = "[...document.querySelectorAll('[role=img]')].filter(it => !it.ariaLabel).length";
    assert_eq!(browser.evaluate(unnamed), Value::from(0));
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// A second time changes nothing, not even when a file was written.
#[test]
fn splicing_writes_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let set = laboratory::write(folder.path());
    let set = set.file_name().unwrap().to_str().unwrap();
    let readme = folder.path().join("README.md");
    fs::write(
        &readme,
        "# A\n\n<!-- loadgen:begin -->\n<!-- loadgen:end -->\n",
    )
    .unwrap();
    report(folder.path(), &[set, "--splice", "README.md"]);
    let read = || {
        let mut files = vec![(readme.clone(), fs::read_to_string(&readme).unwrap())];
        for entry in fs::read_dir(folder.path().join("pictures")).unwrap() {
            let path = entry.unwrap().path();
            files.push((path.clone(), fs::read_to_string(&path).unwrap()));
        }
        files.sort();
        files
    };
    let written = |files: &[(std::path::PathBuf, String)]| -> Vec<_> {
        files
            .iter()
            .map(|(path, _)| path.metadata().unwrap().modified().unwrap())
            .collect()
    };
    let first = read();
    let when = written(&first);
    report(folder.path(), &[set, "--splice", "README.md"]);
    assert_eq!(read(), first);
    assert_eq!(written(&first), when);
    if let Some(kept) = std::env::var_os("LOADGEN_TEST_PICTURES") {
        for (path, text) in &first {
            fs::write(Path::new(&kept).join(path.file_name().unwrap()), text).unwrap();
        }
    }

    let text = fs::read_to_string(&readme).unwrap();
    let names = [
        "calls-keep-alive",
        "calls-new-connection",
        "cpu-by-connections-keep-alive",
        "cpu-by-workload",
        "p99-by-rate-keep-alive-constant",
    ];
    assert_eq!(first.len(), 1 + names.len());
    for name in names {
        let file = folder.path().join(format!("pictures/{name}.svg"));
        let svg = fs::read_to_string(&file).unwrap();
        assert!(svg.len() < 40 * 1024, "{name}: {} bytes", svg.len());
        assert!(
            svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
            "{name}"
        );
        assert_eq!(
            text.matches(&format!("](pictures/{name}.svg)")).count(),
            1,
            "{name}"
        );
        for server in ["event-loop", "thread-per-connection"] {
            assert!(svg.contains(server), "{name} lacks {server}");
        }
    }
}
