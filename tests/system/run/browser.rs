//! `--browser`, with a program in place of the desktop's browser that writes down what it is to open.

use std::fs;
use std::io::Write as _;

use serde_json::json;

use crate::common::{PATIENCE, Program, eventually, tf};
use crate::system::fixture::{Fixture, Saved, can_run};
use crate::system::session::{Session, exchange, write_executable};

/// `tf` with a browser that appends what it is given to the file `opened` in its home.
fn tf_with_browser() -> Program {
    let program = tf();
    let script = "#!/bin/sh\nprintf '%s\\n' \"$@\" >>\"$HOME/opened\"\n";
    let browser = program.home().join("browser");
    write_executable(&browser, script.as_bytes());
    program.env("BROWSER", &browser)
}

/// A web server that is a while about starting, and writes down which host it was asked for.
fn web() -> Saved {
    let cgi = "#!/bin/sh\necho \"asked for $HTTP_HOST\" >&2\nprintf 'Content-Type: text/plain\\r\\n\\r\\nfine'\n";
    Fixture::busybox()
        .file("srv/cgi-bin/page", 0o755, cgi.as_bytes())
        .file("srv/index.html", 0o644, b"a page\n")
        .expose(&["80/tcp"])
        .config("Cmd", json!(["sh", "-c", "httpd -f -vv -p 80 -h /srv"]))
        .save()
}

/// What the browser was told to open first.
fn opened(session: &Session) -> String {
    let path = session.home().join("opened");
    eventually(PATIENCE, || {
        let text = fs::read_to_string(&path).ok()?;
        text.ends_with('\n').then_some(text)
    })
}

#[test]
fn the_browser_shows_the_first_port_that_answers() {
    if !can_run() {
        return;
    }
    let image = web();
    let mut session =
        Session::start(tf_with_browser().args(["--browser", "-p", "0:80", image.path()]));
    let port = session.port(80);
    assert_eq!(opened(&session), format!("http://localhost:{port}/\n"));
    session.interrupt();
}

#[test]
fn the_browser_gets_the_domain_and_the_path() {
    if !can_run() {
        return;
    }
    let image = web();
    // Ports without a web server beside the one with are no reason not to open it.
    let arguments = [
        "--browser",
        "--domain",
        "127.0.0.1",
        "--path",
        "/cgi-bin/page",
        "-p",
        "0:81",
        "-p",
        "0:80",
        image.path(),
    ];
    let mut session = Session::start(tf_with_browser().args(arguments));
    let port = session.port(80);
    assert_eq!(
        opened(&session),
        format!("http://127.0.0.1:{port}/cgi-bin/page\n")
    );
    session.says("asked for 127.0.0.1");
    session.interrupt();
}

#[test]
fn the_browser_waits_for_status_200() {
    if !can_run() {
        return;
    }
    let image = web();
    // There is no such page at first.
    let arguments = [
        "--browser",
        "--path",
        "/late.html",
        "-i",
        "-p",
        "0:80",
        image.path(),
    ];
    let command = [
        "sh",
        "-c",
        "httpd -p 80 -h /srv; read line; echo >/srv/late.html; read line",
    ];
    let mut session = Session::start(tf_with_browser().args(arguments).args(command));
    let port = session.port(80);
    exchange(port, b"GET /late.html HTTP/1.0\r\n\r\n");
    assert!(!session.home().join("opened").exists());
    session.stdin().write_all(b"\n").expect("it is read");
    assert_eq!(
        opened(&session),
        format!("http://localhost:{port}/late.html\n")
    );
    session.interrupt();
}

#[test]
fn without_a_port_there_is_nothing_to_open_and_the_container_goes_on() {
    if !can_run() {
        return;
    }
    let image = Fixture::busybox()
        .config("Cmd", json!(["sh", "-c", "echo up; sleep 1000"]))
        .save();
    let mut session = Session::start(tf_with_browser().args(["--browser", image.path()]));
    session.says("there is no port that a browser could open");
    session.prints("up");
    session.interrupt();
}
