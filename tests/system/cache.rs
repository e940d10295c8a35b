//! `tf cache`, `tfcache` and `tf describe`: images ahead of their containers.

use std::collections::BTreeSet;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{Done, Program, tf, tfcache};
use crate::system::fixture::{Fixture, Saved, can_run, noise};
use crate::system::session::{Session, run};

/// Two images that share busybox, and what their users use.
struct Pair {
    state: TempDir,
    web: Saved,
    db: Saved,
}

impl Pair {
    fn new() -> Option<Self> {
        if !can_run() {
            return None;
        }
        let image = |name: &str, seed| {
            Fixture::busybox()
                .file(name, 0o644, &noise(seed, 1 << 20))
                .name(&format!("{name}:1"))
                .save()
        };
        Some(Self {
            state: TempDir::new().expect("temporary directory"),
            web: image("web", 1),
            db: image("db", 2),
        })
    }

    fn with_state(&self, program: Program) -> Program {
        program.env("TF_STATE", self.state.path())
    }

    fn tf(&self, arguments: &[&str]) -> Program {
        self.with_state(tf()).args(arguments)
    }

    /// The id of an archive's image. Archives give no names: what they say of themselves is not to be trusted.
    fn id(&self, image: &Saved) -> String {
        let done = self.tf(&["describe", image.path()]).run().code(0);
        id(&serde_json::from_str(&done.stdout).expect("JSON"))
    }

    fn list(&self) -> Vec<Value> {
        let done = self.tf(&["cache", "ls", "--json"]).run().code(0);
        serde_json::from_str(&done.stdout).expect("JSON")
    }

    /// The line that says what all images take together.
    fn altogether(&self) -> f64 {
        let done = self.tf(&["cache", "ls"]).run().code(0);
        mebibytes(done.stdout.lines().last().expect("a line"))
    }
}

/// The first size in a text, in MiB.
#[track_caller]
fn mebibytes(text: &str) -> f64 {
    let words: Vec<_> = text
        .split_whitespace()
        .map(|word| word.trim_matches(|c| ",()".contains(c)))
        .collect();
    let size = |pair: &[&str]| {
        let unit = match pair[1] {
            "B" => f64::from(1 << 20),
            "KiB" => 1024.0,
            "MiB" => 1.0,
            _ => return None,
        };
        Some(pair[0].parse::<f64>().ok()? / unit)
    };
    words
        .windows(2)
        .find_map(size)
        .unwrap_or_else(|| panic!("no size in {text}"))
}

/// Ids of images, as short as a person would type them.
fn ids(images: &[Value]) -> BTreeSet<String> {
    let short = |image: &Value| id(&image["description"]);
    images.iter().map(short).collect()
}

/// The id in a description, as short as a person would type it.
fn id(description: &Value) -> String {
    let id = description["id"].as_str().expect("text");
    let hex = id.strip_prefix("sha256:").expect("a digest");
    hex[..12].to_owned()
}

#[test]
fn a_cached_image_runs_by_its_id_and_nothing_is_sent() {
    let Some(pair) = Pair::new() else { return };
    pair.with_state(tfcache())
        .args([pair.web.path()])
        .run()
        .code(0)
        .no_stdout();
    // The archive has gone; the location has the image.
    let web = pair.id(&pair.web);
    let ended = run(pair.tf(&["-v", &web, "sh", "-c", "head -c 1000000 /web | wc -c"]));
    ended
        .code(0)
        .printed("1000000\n")
        .said(&["all layers were at the location already"]);
    // With `tf cache` the same, and only what is missing is sent.
    let done = pair.tf(&["cache", "-v", pair.db.path()]).run().code(0);
    let sent = done.stderr.lines().find(|line| line.contains("sent"));
    let sent = mebibytes(sent.unwrap_or_else(|| panic!("{done:?}")));
    assert!((0.9..1.2).contains(&sent), "{done:?}");
    let both = BTreeSet::from([web, pair.id(&pair.db)]);
    assert_eq!(ids(&pair.list()), both);
}

#[test]
fn shared_layers_are_counted_once_and_freed_last() {
    let Some(pair) = Pair::new() else { return };
    pair.tf(&["cache", pair.web.path()]).run().code(0);
    let one = pair.altogether();
    pair.tf(&["cache", "add", pair.db.path()]).run().code(0);
    let two = pair.altogether();
    // The second one adds its own mebibyte, and not busybox again.
    assert!(
        (0.9..1.2).contains(&(two - one)),
        "{one} MiB, then {two} MiB"
    );
    for image in pair.list() {
        let unique = image["unique"].as_u64().expect("a number");
        assert!((900_000..1_200_000).contains(&unique), "{image:#}");
        assert!(image["size"].as_u64() > Some(unique), "{image:#}");
    }
    let freed = |done: Done| {
        let line = done.code(0).stderr;
        assert!(line.starts_with("removed "), "{line}");
        mebibytes(line.split_once(", ").expect("a size").1)
    };
    let (web, db) = (pair.id(&pair.web), pair.id(&pair.db));
    let first = freed(pair.tf(&["cache", "rm", &web]).run());
    assert!((0.9..1.2).contains(&first), "{first} MiB");
    let second = freed(pair.with_state(tfcache()).args(["rm", &db]).run());
    assert!((second - (two - first)).abs() < 0.1, "{second} MiB");
    assert!(pair.list().is_empty());
    assert!(pair.altogether() < 0.01);
    pair.tf(&["cache", "rm", &web])
        .run()
        .code(1)
        .says(&["error: ", &web]);
}

#[test]
fn what_another_tf_uses_is_not_removed() {
    let Some(pair) = Pair::new() else { return };
    pair.tf(&["cache", pair.web.path()]).run().code(0);
    let web = pair.id(&pair.web);
    let arguments = ["-i", &web, "sh", "-c", "echo up; cat; wc -c </web"];
    let mut session = Session::start(pair.tf(&arguments));
    session.prints("up");
    pair.tf(&["cache", "rm", &web])
        .run()
        .code(1)
        .says(&["error: ", "use"]);
    assert_eq!(ids(&pair.list()), BTreeSet::from([web.clone()]));
    session.end().code(0).printed("up\n1048576\n");
    pair.tf(&["cache", "rm", &web]).run().code(0);
    assert!(pair.list().is_empty());
}

#[test]
fn two_at_a_time_share_what_they_send() {
    let Some(pair) = Pair::new() else { return };
    // The same image twice and another one, none of which is there.
    let images = [pair.web.path(), pair.web.path(), pair.db.path()];
    let sessions = images.map(|image| {
        Session::start(pair.tf(&["-i", image, "sh", "-c", "echo up; cat"])).beside_others()
    });
    for mut session in sessions {
        session.prints("up");
        session.end().code(0).printed("up\n");
    }
}

#[test]
fn a_description_says_what_the_image_is() {
    let Some(pair) = Pair::new() else { return };
    let image = Fixture::busybox().expose(&["80/tcp", "53/udp"]).save();
    let done = pair
        .tf(&["describe", image.path()])
        .run()
        .code(0)
        .no_stderr();
    let value: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(value["platform"]["os"], "linux", "{value:#}");
    assert_eq!(
        value["layers"].as_array().map(Vec::len),
        Some(1),
        "{value:#}"
    );
    let config = &value["config"];
    assert_eq!(
        config["exposed_ports"],
        serde_json::json!(["53/udp", "80/tcp"]),
        "{value:#}"
    );
    assert_eq!(config["cmd"], serde_json::json!(["sh"]), "{value:#}");
    assert!(
        value["id"]
            .as_str()
            .is_some_and(|id| id.starts_with("sha256:")),
        "{value:#}"
    );
}
