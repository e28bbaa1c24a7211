//! The page of a trace, looked at by a browser.

mod browser;
// The same stories as in the tests of the library, which are not public.
mod skipped;
#[path = "../trace/src/output/fixture.rs"]
mod story;

use std::fs;
use std::path::{Path, PathBuf};

use browser::Browser;
use serde_json::{Value, json};
use trace::output::html;

use skipped::skipped;

/// The page of every story in a folder of its own.
fn write(folder: &Path) -> Vec<(String, PathBuf)> {
    let heading = story::heading();
    let mut pages: Vec<(String, String)> = (story::all().into_iter())
        .map(|(name, story)| (name.to_owned(), html::page(&story, &heading)))
        .collect();
    let (a, b) = (story::normal(), story::two_writes());
    let pair = html::pair(("iterative", &a), ("python-http-server", &b), &heading);
    pages.push(("pair".to_owned(), pair));
    // To be looked at.
    let kept = std::env::var_os("LOADGEN_TEST_PAGES");
    let write = |(name, text): (String, String)| {
        let file = folder.join(format!("{name}.html"));
        fs::write(&file, &text).unwrap();
        if let Some(kept) = &kept {
            fs::write(Path::new(kept).join(format!("{name}.html")), &text).unwrap();
        }
        (name, file)
    };
    pages.into_iter().map(write).collect()
}

/// How many elements there are of which something is to be seen.
fn shown(browser: &mut Browser, selector: &str) -> u64 {
    let script = format!(
        "[...document.querySelectorAll({})].filter(it => it.checkVisibility()).length",
        json!(selector)
    );
    browser.evaluate(&script).as_u64().unwrap()
}

fn resize(browser: &mut Browser, width: u32) {
    let phone =
        json!({ "width": width, "height": 740, "deviceScaleFactor": 1, "mobile": width < 600 });
    browser.call("Emulation.setDeviceMetricsOverride", phone);
}

/// Elements that reach beyond the window, but for what scrolls by itself.
const TOO_WIDE: &str = "[...document.querySelectorAll('body *')]\
    .filter(it => !it.closest('.scroll, .defs, .aside, defs') && it.checkVisibility())\
    .filter(it => { const at = it.getBoundingClientRect(); \
        return at.width > 0 && (at.right > innerWidth + 0.5 || at.left < -0.5); })\
    .map(it => `${it.tagName} ${it.getAttribute('class')}: ${it.textContent.slice(0, 40)}`)";

#[test]
fn the_page_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let pages = write(folder.path());
    let Some(mut browser) = Browser::start() else {
        skipped("no chromium is installed, so no page was looked at");
        return;
    };
    for (name, file) in &pages {
        browser.open(file);
        for width in [360, 720, 1280] {
            resize(&mut browser, width);
            // With nothing open, and with all.
            for _ in 0..2 {
                let too_wide = browser.evaluate(TOO_WIDE);
                assert_eq!(too_wide, json!([]), "{name} at {width}");
                let whole = browser.evaluate("document.documentElement.scrollWidth");
                assert!(
                    whole.as_u64().unwrap() <= u64::from(width),
                    "{name}: {whole}"
                );
                browser.evaluate("document.getElementById('all').click()");
            }
        }
        let lost = "[...document.querySelectorAll('a[href^=\"#\"]')].map(it => it.getAttribute('href'))\
                    .filter(it => !document.getElementById(it.slice(1)))";
        assert_eq!(browser.evaluate(lost), json!([]), "{name}");
        let twice = "(ids => ids.filter((id, at) => ids.indexOf(id) !== at))\
                     ([...document.querySelectorAll('[id]')].map(it => it.id))";
        assert_eq!(browser.evaluate(twice), json!([]), "{name}");
        let headless = "[...document.querySelectorAll('line[marker-end]')].map(it => \
                        it.getAttribute('marker-end').slice(5, -1)).filter(it => !document.getElementById(it))";
        assert_eq!(browser.evaluate(headless), json!([]), "{name}");
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn what_is_shown_is_chosen_by_keyboard() {
    let folder = tempfile::tempdir().unwrap();
    let pages = write(folder.path());
    let Some(mut browser) = Browser::start() else {
        skipped("no chromium is installed, so no page was looked at");
        return;
    };
    let (_, file) = pages.iter().find(|(name, _)| name == "normal").unwrap();
    browser.open(file);
    resize(&mut browser, 1280);
    let kinds = ["call", "state", "segment", "sockets"];
    let rows = |browser: &mut Browser| {
        kinds.map(|kind| shown(browser, &format!("[data-kind={kind}] .body")))
    };
    let all = rows(&mut browser);
    assert!(all.iter().all(|&count| count > 2), "{all:?}");
    for (at, kind) in kinds.iter().enumerate() {
        browser.evaluate(&format!("document.getElementById('show-{kind}').focus()"));
        browser.press(" ", " ");
        let mut without = all;
        without[at] = 0;
        assert_eq!(rows(&mut browser), without, "without {kind}");
        browser.press(" ", " ");
        assert_eq!(rows(&mut browser), all, "with {kind}");
    }
    let whys = shown(&mut browser, ".row .why");
    assert!(whys > 5, "{whys}");
    browser.evaluate("document.getElementById('show-why').focus()");
    browser.press(" ", " ");
    assert_eq!(shown(&mut browser, ".row .why"), 0);
    browser.press(" ", " ");
    // Bands are those of the states.
    let band = "getComputedStyle(document.querySelector('.band.established')).backgroundColor";
    let coloured = browser.evaluate(band);
    browser.evaluate("document.getElementById('show-state').click()");
    assert_ne!(browser.evaluate(band), coloured);
    browser.evaluate("document.getElementById('show-state').click()");

    // An event opens by keyboard, and by the link to it.
    assert_eq!(shown(&mut browser, ".panel dl"), 0);
    browser.evaluate("document.querySelector('#e12 summary').focus()");
    browser.press("Enter", "\r");
    assert_eq!(shown(&mut browser, "#e12 .panel dl"), 1);
    browser.evaluate("location.hash = '#e20'");
    browser.wait("document.querySelector('#e20 > details').open");
    let fields = browser.evaluate("document.querySelector('.segment.row dl').textContent");
    for field in ["IP packet", "window", "on the wire", "tcpdump"] {
        assert!(fields.as_str().unwrap().contains(field), "{fields}");
    }

    // Dark and light.
    let paper = "getComputedStyle(document.body).backgroundColor";
    let light = browser.evaluate(paper);
    browser.evaluate("document.getElementById('theme').focus()");
    browser.press("Enter", "\r");
    let dark = browser.evaluate(paper);
    assert_ne!(light, dark);
    browser.press("Enter", "\r");
    assert_eq!(browser.evaluate(paper), light);

    // On paper the tables of sockets are open, and all is as it was afterwards.
    let open = "document.querySelectorAll('.row > details[open]').length";
    let before = browser.evaluate(open);
    browser.evaluate("dispatchEvent(new Event('beforeprint'))");
    assert_eq!(browser.evaluate(open), Value::from(all[3] - 1));
    browser.call("Emulation.setEmulatedMedia", json!({ "media": "print" }));
    assert_eq!(shown(&mut browser, ".segment.row .body"), all[2]);
    assert_eq!(shown(&mut browser, ".controls"), 0);
    browser.evaluate("dispatchEvent(new Event('afterprint'))");
    assert_eq!(browser.evaluate(open), before);
    assert_eq!(browser.complaints, Vec::<String>::new());
}
