//! Makes a container: runs in a process that the shim forks for it, and ends when the container waits to be started.
//!
//! The container's first process is a child of the shim's, not of this one.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::sync::Mutex;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::sched::{CloneFlags, unshare};

use super::super::control::{self, Create, Problem, Report, Step, Streams};
use super::super::sys;
use super::config::config;
use super::launch::Launch;
use super::mounts::mount_rest;
use super::privileges::limit_capabilities;
use super::root::{self, BUNDLE};
use super::seccomp::Filter;
use super::view::View;

/// Makes the container and tells the engine.
pub(super) fn create(
    control: &OwnedFd,
    view: &View,
    filter: &Filter,
    request: u32,
    create: Create,
    streams: Streams,
) -> Result<(), Problem> {
    unshare(CloneFlags::CLONE_NEWNS).step("make a mount namespace")?;
    root::mount_root(&create)?;
    root::write_config(&config(&create, view.cgroups.limits_swap()))?;
    std::env::set_current_dir("/").step("change to the root directory")?;

    let first = FirstProcess(Rc::new(Inner {
        control: control.as_raw_fd(),
        launch: Mutex::new(Some(Launch {
            start: create.start,
            streams,
            filter: filter.clone(),
            hostname: create.hostname,
        })),
        terminal: Mutex::new(None),
    }));
    let container = ContainerBuilder::new(create.name.clone(), SyscallType::default())
        .with_executor(first)
        .with_root_path(BUNDLE)
        .map_err(|error| failed(&error))?
        .as_init(BUNDLE)
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|error| failed(&error))?;
    let process = container
        .pid()
        .ok_or_else(|| Problem::Other("the container has no first process".to_owned()))?
        .as_raw();
    let pidfd = sys::pidfd_open(process).step("find the first process")?;
    // libcontainer's word to go makes the first process wait for ours.
    UnixStream::connect(Path::new(BUNDLE).join(&create.name).join("notify.sock"))
        .step("reach the first process")?;
    control::send(control, &Report::Made { request, process }, &[pidfd])
        .step("report the container")
}

/// What libcontainer says, with all that it says as the cause.
fn failed(error: &dyn std::error::Error) -> Problem {
    let mut text = format!("cannot create the container: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    Problem::Other(text)
}

/// What libcontainer runs as the first process.
#[derive(Clone)]
struct FirstProcess(Rc<Inner>);

struct Inner {
    /// The socket to the engine, which must not stay open inside the container.
    control: i32,
    launch: Mutex<Option<Launch>>,
    terminal: Mutex<Option<OwnedFd>>,
}

impl Executor for FirstProcess {
    /// Called inside the container, before it counts as created.
    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        let problem = |problem: &dyn std::fmt::Display| {
            ExecutorValidationError::ArgValidationError(problem.to_string())
        };
        nix::unistd::close(self.0.control).map_err(|errno| problem(&errno))?;
        mount_rest()
            .and_then(|()| limit_capabilities())
            .map_err(|error| problem(&error))?;
        let launch = self.0.launch.lock().map_err(|error| problem(&error))?;
        let terminal = launch
            .as_ref()
            .map_or(Ok(None), Launch::open_terminal)
            .map_err(|error| problem(&error))?;
        *self.0.terminal.lock().map_err(|error| problem(&error))? = terminal;
        Ok(())
    }

    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // Ours is empty, and the program's is handed to it directly.
        Ok(())
    }

    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        let taken = |text: &str| ExecutorError::Other(text.to_owned());
        let launch = self
            .0
            .launch
            .lock()
            .map_err(|_| taken("a lock was poisoned"))?
            .take()
            .ok_or_else(|| taken("started twice"))?;
        let terminal = self
            .0
            .terminal
            .lock()
            .map_err(|_| taken("a lock was poisoned"))?
            .take();
        launch.go(terminal.as_ref())
    }
}
