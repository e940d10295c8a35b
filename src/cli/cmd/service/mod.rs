//! `tf service`: an image, a location or a node as a unit of systemd.
//!
//! ```text
//! options ─▶ Unit ─▶ text ─▶ systemd here
//!    └─────▶ words ─▶ the same program on a server, by ssh, which does the above there
//! ```

mod name;
mod remote;
mod systemd;
mod unit;
mod words;

use std::path::Path;

use serde::Serialize;

use self::remote::Remote;
use self::systemd::{Scope, Systemd, unit_name};
use self::unit::{Kind, Unit};
use super::location::serve::bounds;
use super::{json, print_result};
use crate::cli::Context;
use crate::cli::args::{Global, ImageService, Install, Installed, Place, Service, ServiceVerb};
use crate::cli::connect::{self, is_remote};
use crate::cli::env::Environment;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::invited;
use crate::cli::limits;
use crate::cli::publish;
use crate::cli::table::table;
use crate::config::Config;
use crate::keyring::{Account, Keyring};
use crate::link::LINGER;
use crate::serve::NodeServer;

/// Longest account that is read from standard input.
const MAX_ACCOUNT: u64 = 4096;

pub(super) async fn run(context: &Context, options: Service) -> Result<Ending, Failure> {
    let Service { place, verb } = options;
    if place.identity.is_some() && place.host.is_none() {
        return Err(Failure::arguments(
            "--identity is for ssh: expected --host USER@SERVER with it",
        ));
    }
    // What systemd or a server was asked to do goes on there; nothing here has to be cleaned up but by `install` itself.
    let work = async {
        match verb.named {
            ServiceVerb::Install(options) => match &place.host {
                Some(host) => install_on(context, &place, host, options).await,
                None => install(context, scope(&place), options).await,
            },
            ServiceVerb::Rm { names } => match &place.host {
                Some(host) => {
                    let words = [vec!["rm".to_owned(), "--".to_owned()], names].concat();
                    manage(context, &place, host, words).await
                }
                None => remove(context, scope(&place), &names).await,
            },
            ServiceVerb::Ls { json } => match &place.host {
                Some(host) => {
                    let json = json.then(|| "--json".to_owned());
                    let words = std::iter::once("ls".to_owned()).chain(json).collect();
                    manage(context, &place, host, words).await
                }
                None => list(context, &place, json).await,
            },
        }
    };
    tokio::select! {
        ended = work => ended,
        signal = context.shutdown.requested() => Ok(Ending::Interrupted(signal)),
    }
}

fn scope(place: &Place) -> Scope {
    if place.system {
        Scope::System
    } else {
        Scope::User
    }
}

async fn install(context: &Context, scope: Scope, options: Install) -> Result<Ending, Failure> {
    if options.with_account {
        return Err(Failure::arguments(
            "--with-account is for servers: expected --host USER@SERVER with it",
        )
        .hint("here, the service uses your accounts as they are"));
    }
    let systemd = Systemd::new(scope)?;
    let config = Config::from_env().map_err(|error| Failure::from_error(&error))?;
    let mut unit = unit(&context.global, &config, scope, &options.what.named)?;
    let account = if options.account_from_stdin {
        let directory = systemd.account(&unit.name);
        set_home(&mut unit, text_of(&directory)?);
        Some((read_account()?, directory))
    } else {
        None
    };
    if unit.kind == Kind::EmbeddedImage {
        needs_root(scope, "use --system, or a location (`tf account join`)")?;
    }
    let text = unit
        .text()
        .map_err(|error| Failure::arguments(error.to_string()))?;
    if options.print {
        return print_result(&context.printer, &text);
    }
    systemd.check().await?;
    let name = unit.name;
    let path = systemd.path(&name);
    let before = std::fs::read_to_string(&path).ok();
    if path.exists() {
        let ours = systemd.find(&name).is_some();
        if !ours || !options.replace {
            let failure = Failure::operation(format!(
                "there is a service `{name}` already: {}",
                path.display()
            ));
            return Err(match (ours, &options.what.named) {
                (false, _) => failure.hint("it was not written by tf: remove it by hand"),
                (true, Installed::Image(_)) => failure
                    .hint("take its place with --replace, or choose another name with --name"),
                (true, _) => failure.hint("take its place with --replace"),
            });
        }
    }
    if let Installed::Node { join } = &options.what.named {
        join_location(context, config, join.as_deref()).await?;
    }
    if let Some((account, directory)) = account {
        // Of the service whose place this one takes.
        let _ = std::fs::remove_dir_all(&directory);
        Keyring::new(directory).add(&account)?;
    }
    systemd.write(&name, &text)?;
    let started = tokio::select! {
        started = systemd.start(&name) => started.map(|()| Ending::Done),
        signal = context.shutdown.requested() => Ok(Ending::Interrupted(signal)),
    };
    match started {
        Ok(Ending::Done) => {}
        ended => {
            put_back(context, &systemd, &name, before).await;
            return ended;
        }
    }
    systemd.tidy(None)?;
    context.printer.note(format_args!(
        "the service {name} runs; `systemctl {}status {}` shows how it is, `tf service rm {}{name}` removes it",
        if scope == Scope::User { "--user " } else { "" },
        unit_name(&name),
        if scope == Scope::User { "" } else { "--system " },
    ));
    if scope == Scope::User && !lingers() {
        context.printer.note(
            "it runs while you are logged in, and with `loginctl enable-linger` from the start of the machine",
        );
    }
    Ok(Ending::Done)
}

/// After a service did not start: what there was before, or nothing.
async fn put_back(context: &Context, systemd: &Systemd, name: &str, before: Option<String>) {
    let done = match before {
        Some(text) => match systemd.write(name, &text) {
            Ok(()) => systemd.start(name).await,
            Err(failure) => Err(failure),
        },
        None => systemd.remove(name).await,
    };
    if let Err(failure) = done {
        context.printer.warning(format_args!(
            "the service {name} is left half installed: {failure}"
        ));
    }
}

/// The unit that is asked for.
fn unit(global: &Global, config: &Config, scope: Scope, what: &Installed) -> Result<Unit, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::operation(format!("cannot find this program: {error}")))?;
    let mut arguments = Vec::new();
    words::global(global, &mut arguments);
    let mut environment = vec![("TF_STATE", text_of(&config.state)?)];
    let mut directory = None;
    let mut writes = false;
    let (name, kind, of) = match what {
        Installed::Image(options) => {
            environment.push(("TF_HOME", text_of(&config.home)?));
            if global.location.is_none() {
                environment.extend(config.location.clone().map(|name| ("TF_LOCATION", name)));
            }
            for variable in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"] {
                let value = std::env::var(variable)
                    .ok()
                    .filter(|value| !value.is_empty());
                environment.extend(value.map(|value| (variable, value)));
            }
            let here = std::env::current_dir().map_err(|error| {
                Failure::operation(format!("cannot find the current directory: {error}"))
            })?;
            directory = Some(text_of(&here)?);
            writes = options.run.json.is_some();
            arguments.push("run".to_owned());
            words::run(&settled(options)?.run, &mut arguments);
            let kind = if is_remote(global)? {
                Kind::Image
            } else {
                Kind::EmbeddedImage
            };
            (name_of(options)?, kind, options.run.image.clone())
        }
        Installed::Location(options) => {
            bounds(options)?;
            arguments.extend(["location", "serve"].map(str::to_owned));
            words::location(options, &mut arguments);
            let kind = if options.no_node {
                Kind::Location
            } else {
                needs_root(scope, "leave containers to other machines with --no-node")?;
                Kind::LocationWithNode
            };
            ("location".to_owned(), kind, "location".to_owned())
        }
        Installed::Node { .. } => {
            needs_root(scope, "use --system")?;
            arguments.extend(["node", "serve"].map(str::to_owned));
            ("node".to_owned(), Kind::Node, "node".to_owned())
        }
    };
    Ok(Unit {
        name,
        kind,
        of,
        scope,
        program: text_of(&program)?,
        arguments,
        environment,
        directory,
        state: Some(text_of(&config.state)?),
        writes,
    })
}

/// The options of an image as they are for a service: checked as far as they can be here, without anything that only who
/// has typed them has.
fn settled(options: &ImageService) -> Result<ImageService, Failure> {
    let ImageService { name, run } = options;
    let mut run = run.clone();
    if run.streams.interactive || run.streams.tty || run.browser {
        return Err(Failure::arguments(
            "a service has neither a terminal nor a browser: leave -i, -t and --browser out",
        ));
    }
    publish::Request::parse(run.offset, &run.publish, run.public)?;
    limits::parse(&run)?;
    // The service does not have the variables of who installs it.
    let environment = Environment::parse(&run.env, |name| std::env::var(name).ok())?;
    run.env = environment.variables;
    Ok(ImageService {
        name: name.clone(),
        run,
    })
}

fn name_of(options: &ImageService) -> Result<String, Failure> {
    match &options.name {
        Some(name) => name::checked(name),
        None => name::of_image(&options.run.image),
    }
}

/// Running containers is for root; a user's manager has no more rights than the user.
fn needs_root(scope: Scope, hint: &str) -> Result<(), Failure> {
    if scope == Scope::User && !nix::unistd::geteuid().is_root() {
        return Err(Failure::operation("running containers needs root").hint(hint));
    }
    Ok(())
}

/// Uses an invitation for this machine now: it is worth nothing afterwards, and the unit, which all users of the machine can
/// read, does not hold it.
async fn join_location(
    context: &Context,
    config: Config,
    invitation: Option<&str>,
) -> Result<(), Failure> {
    let Some(invitation) = invitation else {
        return Ok(());
    };
    let invitation = invited::read(&context.printer, Some(invitation)).await?;
    let address = connect::address(&context.global)?;
    let node = NodeServer::start(config.state, Some(invitation), address, LINGER).await?;
    context.printer.note(format_args!(
        "this machine is a node of {} now",
        node.location()
    ));
    node.leave().await;
    Ok(())
}

fn read_account() -> Result<Account, Failure> {
    use std::io::Read as _;

    let mut text = String::new();
    let read = std::io::stdin().take(MAX_ACCOUNT).read_to_string(&mut text);
    read.ok()
        .and_then(|_| Account::from_lines(&text))
        .ok_or_else(|| Failure::operation("standard input is not an account"))
}

/// Has a service use an account of its own.
fn set_home(unit: &mut Unit, home: String) {
    unit.environment
        .retain(|(name, _)| *name != "TF_HOME" && *name != "TF_LOCATION");
    unit.environment.push(("TF_HOME", home));
    if unit.kind == Kind::EmbeddedImage {
        unit.kind = Kind::Image;
    }
}

/// Whether the user's systemd runs without the user.
fn lingers() -> bool {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    user.ok().flatten().is_some_and(|user| {
        Path::new("/var/lib/systemd/linger")
            .join(user.name)
            .exists()
    })
}

async fn install_on(
    context: &Context,
    place: &Place,
    host: &str,
    options: Install,
) -> Result<Ending, Failure> {
    if options.print {
        return Err(Failure::arguments(
            "--print shows a unit for this machine: leave --host out",
        ));
    }
    let remote = Remote::new(host, place.identity.as_deref(), scope(place))?;
    let config = Config::from_env().map_err(|error| Failure::from_error(&error))?;
    let mut words = Vec::new();
    let mut global = context.global.clone();
    let mut input = String::new();
    if options.with_account {
        let account = account(&global, &config)?;
        input = account.to_lines();
        // It is the only one that the service has.
        global.location = None;
    } else if matches!(options.what.named, Installed::Image(_)) {
        global.location = global.location.or(config.location);
    }
    words::global(&global, &mut words);
    words.extend(["service", "install"].map(str::to_owned));
    for (word, given) in [
        ("--system", place.system),
        ("--replace", options.replace),
        ("--account-from-stdin", options.with_account),
    ] {
        words.extend(given.then(|| word.to_owned()));
    }
    match &options.what.named {
        Installed::Image(options) => {
            words.push("image".to_owned());
            // Found out here, before anything is sent.
            name_of(options)?;
            words::image(&settled(options)?, &mut words);
        }
        Installed::Location(options) => {
            words.push("location".to_owned());
            words::location(options, &mut words);
        }
        Installed::Node { join } => {
            words.push("node".to_owned());
            if let Some(join) = join {
                // A file or standard input is here, not there.
                let invitation = invited::read(&context.printer, Some(join)).await?;
                words.push(format!("--join={invitation}"));
            }
        }
    }
    remote.install(&words, &input).await
}

/// The account that is used here.
fn account(global: &Global, config: &Config) -> Result<Account, Failure> {
    let keyring = Keyring::new(&config.home);
    let name = global.location.clone().or_else(|| config.location.clone());
    let name = match name {
        Some(name) => name,
        None => keyring.default_name()?.ok_or_else(|| {
            Failure::operation(
                "there is no account to give to the service: this machine is its own location",
            )
            .hint("join one with `tf account join`, or leave --with-account out")
        })?,
    };
    let mut account = keyring.account(&name)?;
    if let Some(address) = connect::address(global)? {
        account.address = address;
    }
    Ok(account)
}

/// Does something with the services of a server.
async fn manage(
    context: &Context,
    place: &Place,
    host: &str,
    verb: Vec<String>,
) -> Result<Ending, Failure> {
    let mut words = Vec::new();
    words::global(&context.global, &mut words);
    words.push("service".to_owned());
    words.extend(place.system.then(|| "--system".to_owned()));
    words.extend(verb);
    let remote = Remote::new(host, place.identity.as_deref(), scope(place))?;
    remote.manage(&words).await
}

async fn remove(context: &Context, scope: Scope, names: &[String]) -> Result<Ending, Failure> {
    let systemd = Systemd::new(scope)?;
    let mut ending = Ending::Done;
    for name in names {
        name::checked(name)?;
        let Some(found) = systemd.find(name) else {
            context.printer.error(format_args!(
                "there is no service `{name}` of the {} that tf has installed: `tf service ls` lists those there are",
                match scope {
                    Scope::User => "user",
                    Scope::System => "machine",
                }
            ));
            ending = Ending::Failed;
            continue;
        };
        systemd.check().await?;
        systemd.remove(name).await?;
        context.printer.note(format_args!("removed {name}"));
        if found.written.role != "image" {
            context
                .printer
                .note("what it has stored is kept, its keys included");
        }
    }
    Ok(ending)
}

/// A service in the list.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// `image`, `location` or `node`.
    role: String,
    /// The image, if it is one.
    image: Option<String>,
    /// Whose it is: `user` or `system`.
    scope: &'static str,
    /// What systemd says, `active` for one; none if it does not.
    state: Option<String>,
    /// Path of the unit.
    unit: String,
}

async fn list(context: &Context, place: &Place, as_json: bool) -> Result<Ending, Failure> {
    let scopes: &[Scope] = if place.system {
        &[Scope::System]
    } else {
        &[Scope::User, Scope::System]
    };
    let mut rows = Vec::new();
    for scope in scopes {
        let systemd = Systemd::new(*scope)?;
        let found = systemd.found()?;
        let names: Vec<String> = found.iter().map(|service| service.name.clone()).collect();
        let mut states = systemd.states(&names).await;
        rows.extend(found.into_iter().map(|service| Row {
            image: (service.written.role == "image").then_some(service.written.of),
            role: service.written.role,
            scope: scope.name(),
            state: states.remove(&service.name),
            unit: systemd.path(&service.name).display().to_string(),
            name: service.name,
        }));
    }
    let text = if as_json {
        json(&rows)
    } else {
        let cells = rows.into_iter().map(|row| {
            [
                row.name,
                row.role,
                row.image.unwrap_or_default(),
                row.scope.to_owned(),
                row.state.unwrap_or_else(|| "unknown".to_owned()),
            ]
        });
        table(["SERVICE", "ROLE", "IMAGE", "OF", "STATE"], cells.collect())
    };
    print_result(&context.printer, &text)
}

/// A path as text, which a unit is.
fn text_of(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::operation(format!(
            "{} cannot be written into a unit: its name is not UTF-8",
            path.display()
        ))
    })
}
