//! What a container's root file system is made of.

use std::path::Path;

use tfnz::node::engine::{Engine, EngineError};
use tfnz::protocol::container::{Exit, PrebootFile};

use super::bench::{Bench, add, busybox, finish, skip};
use crate::system::fixture::Layer;

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_inside_and_nowhere_else() {
    if skip() {
        return;
    }
    let mut image = busybox();
    // Whatever is written through these must stay in the container.
    image.link("up", "../../../../../../../var/tmp");
    image.directory("var", 0o755);
    image.directory("var/tmp", 0o1777);
    image.link("absolute", "/home");
    image.directory("sticky", 0o1777);
    image.link("etc/resolv.conf", "/../../../../var/tmp/tfnz-resolv");
    let bench = Bench::with(vec![image]).await;
    let file = |path: &str| PrebootFile {
        path: path.to_owned(),
        mode: 0o640,
        content: path.as_bytes().to_vec(),
    };
    let mut spec = bench.spec(&[
        "sh",
        "-c",
        "stat -c '%n %a %u %g' /new/deep/file /var/tmp/tfnz-through /home/through /sticky /sticky/x /etc/plain
         cat /new/deep/file /home/through /etc/plain; echo; cat /etc/hosts | tail -1; cat /etc/resolv.conf > /dev/null && echo resolv
         echo more >> /etc/hosts && echo more >> /etc/resolv.conf && echo writable",
    ]);
    spec.files = [
        "/new/deep/file",
        "/up/tfnz-through",
        "/absolute/through",
        "/sticky/x",
        "/etc/plain",
    ]
    .map(file)
    .to_vec();
    let hostname = spec.id.as_str()[..12].to_owned();
    let container = bench.create(spec).await;
    let io = container.first_process().take_io();
    container.start().await.expect("started");
    let (text, error, exit) = finish(io, container.first_process()).await;
    assert_eq!(
        text,
        format!(
            "/new/deep/file 640 0 0\n/var/tmp/tfnz-through 640 0 0\n/home/through 640 0 0\n/sticky 1777 0 0\n\
             /sticky/x 640 0 0\n/etc/plain 640 0 0\n/new/deep/file/absolute/through/etc/plain\n\
             {}\t{hostname}\nresolv\nwritable\n",
            container.ip()
        ),
        "{error}"
    );
    assert_eq!(exit, Exit::Code(0));
    for outside in [
        "/var/tmp/tfnz-through",
        "/var/tmp/tfnz-resolv",
        "/home/through",
    ] {
        assert!(!Path::new(outside).exists(), "{outside}");
    }
    // Too large for the shim's socket, and to be kept in memory.
    let mut spec = bench.spec(&["wc", "-c", "/etc/large"]);
    spec.files = vec![PrebootFile {
        path: "/etc/large".to_owned(),
        mode: 0o600,
        content: vec![b'x'; 3 << 20],
    }];
    let (text, _, _) = bench.run(spec).await;
    assert_eq!(text, "3145728 /etc/large\n");
    for path in [
        "/../../x",
        "relative",
        "/a/../b",
        "/",
        "/dir/",
        "",
        "/proc/1/x",
        "/dev/x",
        "/etc",
        "/etc/passwd/x",
    ] {
        let mut spec = bench.spec(&["true"]);
        spec.files = vec![file(path)];
        match bench.engine.create(spec).await.map(drop) {
            Err(EngineError::BadSpec(text)) => assert!(text.contains(path), "{text}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_lie_on_each_other_whatever_their_number() {
    if skip() {
        return;
    }
    let mut images = vec![busybox()];
    for number in 0..120 {
        let mut image = Layer::new();
        image.directory("many", 0o755);
        image.file(&format!("many/{number}"), 0o644, b"");
        image.file("last", 0o644, number.to_string().as_bytes());
        images.push(image);
    }
    let mut top = Layer::new();
    top.file("many/.wh.7", 0o644, b"");
    top.file("many/own", 0o4755, b"");
    images.push(top);
    let bench = Bench::with(images).await;
    let (text, error, _) = bench
        .run(bench.spec(&["sh", "-c", "ls /many | wc -l; cat /last; echo; stat -c '%a %u %g' /many/own /bin/busybox; rm -r /many && touch /many"]))
        .await;
    assert_eq!(text, "120\n119\n4755 0 0\n755 0 0\n", "{error}");
    // What one has removed is there for the next.
    let (text, _, _) = bench
        .run(bench.spec(&["sh", "-c", "ls /many | wc -l"]))
        .await;
    assert_eq!(text, "120\n");
    bench.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_systems_are_mounted_on_directories_of_the_image_only() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    for name in ["proc", "dev", "sys"] {
        let links = [
            "/etc",
            "etc",
            "/nowhere",
            "../../../../var/tmp",
            "/proc/1/root",
        ];
        let mut images: Vec<_> = links
            .map(|target| {
                let mut image = Layer::new();
                image.directory("etc", 0o755);
                image.link(name, target);
                image
            })
            .into();
        let mut file = Layer::new();
        file.file(name, 0o644, b"");
        images.push(file);
        for image in images {
            let mut spec = bench.spec(&["true"]);
            spec.layers = vec![add(&bench.engine, image).await];
            match bench.engine.create(spec).await.map(drop) {
                Err(EngineError::BadSpec(text)) => {
                    assert!(text.contains(&format!("/{name} of the image")), "{text}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    bench.engine.shutdown().await;
}
