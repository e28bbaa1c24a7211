//! `loadgen report`: the page, looked at by a browser, and the pictures.

mod browser;
mod laboratory;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use browser::Browser;
use lab::compare::Latencies;
use serde_json::{Value, json};

/// Runs `loadgen report` with these arguments in a folder.
fn write_report(folder: &Path, args: &[&str]) {
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
    write_report(folder.path(), &[name, "--html", "page.html"]);
    let file = folder.path().join("page.html");
    // To be looked at.
    if let Some(kept) = std::env::var_os("LOADGEN_TEST_PAGE") {
        fs::copy(&file, kept).unwrap();
    }
    (folder, file)
}

/// A chart takes milliseconds; this is long for a machine that has much else to do.
const DRAWN_WITHIN: Duration = Duration::from_secs(20);

/// Scrolls to a chart and waits until it is drawn.
fn visit(browser: &mut Browser, id: &str) {
    let chart = format!("document.getElementById({})", json!(id));
    browser.evaluate(&format!("{chart}.scrollIntoView({{ block: 'center' }})"));
    let began = Instant::now();
    while browser.evaluate(&format!("{chart}.dataset.drawn")) != json!("true") {
        assert!(
            began.elapsed() < DRAWN_WITHIN,
            "the chart {id} is not drawn after {DRAWN_WITHIN:?}; complaints: {:?}",
            browser.complaints
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// Scrolls to every chart, those of closed workloads too; how many of them have axes.
fn visit_all(browser: &mut Browser) -> Value {
    browser.evaluate(
        "document.querySelectorAll('details.workload').forEach(it => { it.open = true; })",
    );
    let ids = browser.evaluate("[...document.querySelectorAll('.plot')].map(it => it.id)");
    for id in ids.as_array().unwrap() {
        visit(browser, id.as_str().unwrap());
    }
    browser.evaluate(
        "[...document.querySelectorAll('.plot')]\
         .filter(it => it.querySelector('.cartesianlayer .xy')).length",
    )
}

#[test]
fn the_page_in_a_browser() {
    let (_folder, file) = page();
    let Some(mut browser) = Browser::start() else {
        println!("SKIPPED: no chromium is installed, so no page was looked at");
        return;
    };
    browser.open(&file);
    // Charts are drawn when they come into view, and those of a workload when it is opened.
    let drawn = visit_all(&mut browser);
    // 4 by connections, 2 by rate, 1 by workload, a curve for each of 19 workloads, and 3 of the ledger; those
    // without variation are a sentence.
    let figures = browser.evaluate("document.querySelectorAll('.chart').length");
    assert_eq!(figures, json!(4 + 2 + 1 + 19 + 19 * 3));
    let charts = browser.evaluate("document.querySelectorAll('.plot').length");
    let said = browser.evaluate("document.querySelectorAll('.sentence').length");
    let sum = charts.as_u64().unwrap() + said.as_u64().unwrap();
    assert_eq!(figures, json!(sum));
    assert_eq!(drawn, charts);
    let empty = browser.evaluate(
        "[...document.querySelectorAll('.plot')]\
         .filter(it => !it.querySelector('.trace, .point, .scatterlayer path')).map(it => it.id)",
    );
    assert_eq!(empty, json!([]), "a chart shows nothing");

    // A server is switched off everywhere, with the keyboard alone: in what is in view and in what comes.
    let shown = "[...document.querySelectorAll('.plot')].filter(it => it.dataset.drawn === 'true')\
                 .filter(it => it.data.some(trace => trace.meta === 'event-loop' || \
                 trace.y.includes?.('event-loop'))).length";
    let drawn = "document.querySelectorAll('.plot[data-drawn=true]').length";
    assert_eq!(browser.evaluate(shown), charts);
    browser.evaluate("document.querySelector('input[data-server=\"event-loop\"]').focus()");
    browser.press(" ", " ");
    browser.wait(&format!("0 < {drawn} && {drawn} < {charts}"));
    assert_eq!(browser.evaluate(shown), json!(0));
    visit(&mut browser, "cpu-by-workload");
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
    visit_all(&mut browser);
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

/// 22 servers under 40 workloads.
#[test]
fn the_page_of_a_long_ladder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let page = report::html::page(&lab::fixture::ladder(), &Latencies::default(), "loadgen");
    assert!(page.len() < 8_000_000, "{} bytes", page.len());
    fs::write(&file, page).unwrap();
    let Some(mut browser) = Browser::start() else {
        println!("SKIPPED: no chromium is installed, so no page was looked at");
        return;
    };
    let resize = |browser: &mut Browser, width: u32| {
        let window =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        browser.call("Emulation.setDeviceMetricsOverride", window);
    };
    let number = |browser: &mut Browser, script: &str| browser.evaluate(script).as_u64().unwrap();
    resize(&mut browser, 1_280);
    browser.open(&file);
    let drawn = "document.querySelectorAll('.plot[data-drawn=true]').length";
    let height = number(&mut browser, "document.documentElement.scrollHeight");
    assert!(height < 15 * 900, "{height} pixels");
    assert!(number(&mut browser, drawn) < 10, "nobody has scrolled yet");

    // Names stand at the ends of lines, each at a place of its own.
    let chart = "document.getElementById('cpu-by-connections-keep-alive')";
    visit(&mut browser, "cpu-by-connections-keep-alive");
    let names = format!("[...{chart}.querySelectorAll('.annotation')]");
    assert_eq!(number(&mut browser, &format!("{names}.length")), 21);
    let covered = format!(
        "{names}.map(it => it.getBoundingClientRect().top).sort((a, b) => a - b)\
         .filter((top, at, all) => at > 0 && top - all[at - 1] < 9).length"
    );
    assert_eq!(number(&mut browser, &covered), 0);
    let beside =
        format!("{chart}.closest('.chart').textContent.includes('Beyond the axis: python')");
    assert_eq!(browser.evaluate(&beside), json!(true));
    // No line goes to a point that is not compared, and none across it.
    let joined = format!(
        "{chart}.data.find(it => it.meta === 'event-loop' && it.mode === 'lines+markers').x"
    );
    assert_eq!(
        browser.evaluate(&joined).as_array().unwrap()[1..4],
        [json!(4), Value::Null, json!(64)]
    );

    // What has the focus is highlighted everywhere.
    let faded = |of: &str| {
        format!(
            "[...{chart}.querySelectorAll('.scatterlayer > .trace[data-of={of}]')]\
                 .every(it => getComputedStyle(it).opacity < 0.5)"
        )
    };
    assert_eq!(browser.evaluate(&faded("io-uring")), json!(false));
    browser.evaluate("document.querySelector('input[data-server=floor]').focus()");
    browser.press("Tab", "");
    browser.evaluate("document.querySelector('input[data-server=event-loop]').focus()");
    browser.wait(&faded("io-uring"));
    assert_eq!(browser.evaluate(&faded("event-loop")), json!(false));
    browser.evaluate("document.activeElement.blur()");
    browser.wait(&format!("!({})", faded("io-uring")));

    // A link opens the workload that it leads to.
    browser.evaluate("location.hash = '#workload-pipelined-16'");
    browser.wait("document.getElementById('workload-pipelined-16').open");

    // On a phone charts are drawn again, with those labels that have room.
    resize(&mut browser, 390);
    browser.wait(&format!(
        "{chart}.dataset.drawn === 'false' || {chart}.clientWidth === {chart}.layout.width"
    ));
    visit(&mut browser, "cpu-by-connections-keep-alive");
    assert_eq!(
        browser.evaluate(&format!("{chart}.layout.width === {chart}.clientWidth")),
        json!(true)
    );
    let overlapping = format!(
        "[...{chart}.querySelectorAll('.xtick text')].map(it => it.getBoundingClientRect())\
         .filter(it => it.width > 0).sort((a, b) => a.left - b.left)\
         .filter((it, at, all) => at > 0 && it.left < all[at - 1].right).length"
    );
    assert_eq!(number(&mut browser, &overlapping), 0);

    // Nothing is cut: wide tables scroll by themselves.
    browser.evaluate("document.querySelectorAll('details').forEach(it => { it.open = true; })");
    let width = number(&mut browser, "document.documentElement.scrollWidth");
    assert!(width <= 390, "{width}");

    // On paper all is drawn.
    resize(&mut browser, 1_280);
    browser.evaluate("dispatchEvent(new Event('beforeprint'))");
    assert_eq!(
        browser.evaluate(drawn),
        browser.evaluate("document.querySelectorAll('.plot').length")
    );
    browser.evaluate("dispatchEvent(new Event('afterprint'))");
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
    write_report(folder.path(), &[set, "--splice", "README.md"]);
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
    write_report(folder.path(), &[set, "--splice", "README.md"]);
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
