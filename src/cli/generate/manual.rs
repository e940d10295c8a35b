//! What the man pages say beyond the help: examples, exit status, files, environment.

use crate::cli::exit::{PROGRAM_TABLE, VERB_TABLE};

/// A term and what it means.
pub(super) type Entry = (&'static str, &'static str);

/// The additional sections of one page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manual {
    /// Name of the page.
    pub(super) page: &'static str,
    /// Sections of its own: heading and paragraphs.
    pub(super) notes: &'static [(&'static str, &'static [&'static str])],
    /// What a command line does, and the command line.
    pub(super) examples: &'static [Entry],
    /// Exit status and meaning.
    pub(super) exit_status: &'static [Entry],
    /// Paths.
    pub(super) files: &'static [Entry],
    /// Variables.
    pub(super) environment: &'static [Entry],
    /// Other pages.
    pub(super) see_also: &'static [&'static str],
}

/// The sections of a page.
pub(super) fn of(page: &str) -> Option<&'static Manual> {
    PAGES.iter().find(|manual| manual.page == page)
}

const STATE: Entry = (
    "/var/lib/20ft",
    "Layers of images and other state of the location in this process, for root. For other users it is the directory `20ft` \
     below $XDG_DATA_HOME, or below ~/.local/share.",
);

const KEYS: Entry = (
    "~/.20ft",
    "Keys and settings of the user, readable by nobody else: for each location the secret key in a file of the location's name, \
     and the public halves and the address beside it.",
);

const SERVER_STATE: Entry = (
    "/var/lib/20ft",
    "Keys, accounts, images and other state of a location or a node, for root. For other users it is the directory `20ft` \
     below $XDG_DATA_HOME, or below ~/.local/share.",
);

const SERVER_ENVIRONMENT: &[Entry] = &[
    (
        "TF_STATE",
        "Directory for all state, in place of the one named under FILES.",
    ),
    MAX_CACHE,
    (
        "NOTIFY_SOCKET",
        "Socket of the service manager, which is told when the server is ready and when it begins to stop, as systemd asks of \
         services of Type=notify. With KillMode=process in the unit, containers outlive a server that dies and is started again.",
    ),
];

const SERVICE_FILES: &[Entry] = &[
    (
        "~/.config/systemd/user/tf-NAME.service",
        "The unit of the service NAME; in /etc/systemd/system with --system.",
    ),
    (
        "~/.local/lib/20ft",
        "The program, where --host has copied it; /usr/local/lib/20ft with --system. It is removed with the last service that \
         runs it.",
    ),
    (
        "~/.local/share/20ft/services",
        "Accounts of services that --with-account has copied; /var/lib/20ft/services with --system.",
    ),
    KEYS,
];

const SERVICE_ENVIRONMENT: &[Entry] = &[
    (
        "TF_HOME",
        "Directory for keys and settings, in place of ~/.20ft. The service gets what is in effect when it is installed, here \
         and for the variables below.",
    ),
    (
        "TF_STATE",
        "Directory for all state of a location or a node, in place of /var/lib/20ft, or of the one in the user's data directory.",
    ),
    (
        "TF_LOCATION",
        "Name of the location to use, unless --location names one.",
    ),
    DOCKER[0],
    DOCKER[1],
    DOCKER[2],
];

const DOCKER_CONFIG: Entry = (
    "~/.docker/config.json",
    "Credentials for registries, as `docker login` leaves them, credential helpers included; and the Docker context in use.",
);

const DOCKER: &[Entry] = &[
    (
        "DOCKER_HOST",
        "Address of the local Docker daemon, if it is not the usual one.",
    ),
    (
        "DOCKER_CONTEXT",
        "Name of the Docker context that says where the daemon is. DOCKER_HOST goes before it.",
    ),
    (
        "DOCKER_CONFIG",
        "Directory with Docker's configuration, in place of ~/.docker.",
    ),
];

const MAX_CACHE: Entry = (
    "TF_MAX_CACHE",
    "Most space for images at the location in this process, as in 20g: beyond it, what was used least recently is removed. For \
     `tf location serve` it is what --max-cache is if that is not given.",
);

const ENVIRONMENT: &[Entry] = &[
    (
        "TF_HOME",
        "Directory for keys and settings, in place of ~/.20ft.",
    ),
    (
        "TF_STATE",
        "Directory for the state of the location in this process, in place of the one named under FILES.",
    ),
    (
        "TF_CACHE",
        "Directory for what can be made again at any time, in place of the directory `20ft` below $XDG_CACHE_HOME, or \
         below ~/.cache.",
    ),
    MAX_CACHE,
    (
        "TF_LOCATION",
        "Name of the location to use, unless --location names one.",
    ),
    DOCKER[0],
    DOCKER[1],
    DOCKER[2],
    (
        "NO_COLOR",
        "If it is set and not empty, nothing is printed in colour.",
    ),
];

const PAGES: &[Manual] = &[
    Manual {
        page: "tf",
        notes: &[
            (
                "OUTPUT",
                &[
                    "Standard output carries the standard output of the container, or the result of a verb. Everything else goes \
                 to standard error: which address leads to which port, progress, warnings and errors.",
                    "Progress bars and colour are for terminals only. A reader of standard output that goes away early, as in \
                 `tf cache ls | head -1`, is no error.",
                ],
            ),
            (
                "LOST CONNECTIONS",
                &[
                    "When the connection to the location is lost, tf makes it again, and all that goes through it carries on where \
                 it was. Local ports stay bound meanwhile.",
                    "The location keeps the session for two minutes, or as long as --linger says, but never longer than its \
                 --max-linger. When the time is up, or at once with --linger 0, it ends the session and frees all that was \
                 started in it.",
                    "A location that is killed and started again in this time goes on with the session. Connections that were \
                 open have ended then. Standard streams have not: nothing of them is missing. Only where a node is killed, \
                 which the location's own node is with it, is what was on its way lost, 8 MiB of each stream at most; an end \
                 of standard input arrives all the same.",
                ],
            ),
        ],
        examples: &[
            (
                "See a web page that is served out of a container. It needs neither Docker nor a network:",
                "tf --offset 8000 hello",
            ),
            ("Run what has just been built:", "docker build . && tf ."),
            ("Work in a container:", "tf -it debian bash"),
            ("Run an image that is called like a verb:", "tf run cache"),
        ],
        exit_status: PROGRAM_TABLE,
        files: &[
            (
                "~/.20ft",
                "Keys and settings of the user, readable by nobody else.",
            ),
            STATE,
            DOCKER_CONFIG,
        ],
        environment: ENVIRONMENT,
        see_also: &[
            "tf-run",
            "tf-cache",
            "tf-describe",
            "tf-last-image",
            "tf-ps",
            "tf-stop",
            "tf-resources",
            "tf-account",
            "tf-locations",
            "tf-location",
            "tf-node",
            "tf-service",
            "tfcache",
            "docker",
        ],
    },
    Manual {
        page: "tf-run",
        notes: &[
            (
                "PORTS",
                &[
                    "Every TCP port that the image exposes is bound on 127.0.0.1 before the container starts, under its own \
                     number plus that of --offset. A port that is taken or not allowed is an error at once. Ports that are \
                     not TCP are named and skipped.",
                    "When a service in the container accepts connections, its address is printed on standard error, with the \
                     time that it took: http://localhost:8080 -> 80/tcp. A connection that is made earlier waits.",
                    "-p adds a local port, or replaces the one that an exposed port would have had. --offset does not apply \
                     to it.",
                ],
            ),
            (
                "STREAMS AND SIGNALS",
                &[
                    "What the program writes to standard output and standard error appears there unchanged. Standard input is \
                     passed on with -i only, and its end too.",
                    "With -t the program gets a terminal of the size of the caller's. With -it the terminal is in raw mode: \
                     every key goes to the program, Ctrl-C included.",
                    "SIGINT and SIGTERM, and SIGHUP unless it was ignored from the start as by nohup(1), end the container and \
                     then tf. A second one ends tf at once; nothing of the container outlives it in that case either.",
                ],
            ),
            (
                "STATE FILE",
                &[
                    "The file of --json is one JSON object with the members `container` and `node` (their ids), `image` (as it \
                     was given), `ip` (address of the container among containers), `tunnels` (an object: port of the \
                     container to local port) and `pid` (of tf).",
                    "It must not exist before. It appears with its whole content once the container runs, and is removed at \
                     the end. What kill -9 leaves behind has to be removed by hand.",
                ],
            ),
        ],
        examples: &[
            (
                "Serve the image nginx on http://localhost:8080:",
                "tf --offset 8000 nginx",
            ),
            (
                "The same in the background, also after logging out:",
                "nohup tf --offset 8000 nginx &",
            ),
            (
                "Choose the local port, for all machines of the network:",
                "tf -p 0.0.0.0:8080:80 nginx",
            ),
            (
                "With a configuration of its own and a variable of the caller's:",
                "tf --offset 8000 -f ./nginx.conf:/etc/nginx/ -e TZ nginx",
            ),
            (
                "Open the browser on a page as soon as it is there:",
                "tf --offset 8000 --browser --path /status nginx",
            ),
            (
                "Filter a file through a program of an image:",
                "tf -i debian sort < names > sorted",
            ),
            (
                "Find out what a container gets along with:",
                "tf --memory 64m --cpus 0.5 --pids 20 -it debian bash",
            ),
            (
                "See where the time goes:",
                "tf --timing --offset 8000 nginx",
            ),
        ],
        exit_status: PROGRAM_TABLE,
        files: &[STATE, DOCKER_CONFIG],
        environment: ENVIRONMENT,
        see_also: &[
            "tf",
            "tf-cache",
            "tf-describe",
            "tf-last-image",
            "docker-run",
        ],
    },
    Manual {
        page: "tf-cache",
        notes: &[(
            "WHAT IS KEPT",
            &[
                "A location that has been given a bound for its cache (`tf location serve --max-cache`, or TF_MAX_CACHE) removes \
                 images beyond it: first those that nobody asked to keep, then the others, of each kind the one that was used \
                 least recently. It removes nothing that is in use. An image that is gone is sent again by the next run.",
                "Of an image that several clients of one user send at once, each layer is sent once: the others wait for it. Users \
                 of a location do not profit from each other in this way, since each has to show that they have a layer by \
                 sending it; it is stored once.",
            ],
        )],
        examples: &[
            (
                "Send an image now, so that a run needs no time for it later:",
                "tf cache nginx",
            ),
            ("See what is kept:", "tf cache ls"),
            (
                "Free the space of all images:",
                "tf cache ls --json | jq -r '.[].description.id' | xargs tf cache rm",
            ),
            (
                "Keep an image that is called like a verb:",
                "tf cache add ls",
            ),
        ],
        exit_status: VERB_TABLE,
        files: &[STATE, DOCKER_CONFIG],
        environment: ENVIRONMENT,
        see_also: &["tf", "tf-run", "tfcache"],
    },
    Manual {
        page: "tf-describe",
        notes: &[],
        examples: &[
            (
                "See which ports an image exposes:",
                "tf describe nginx | jq -r '.config.exposed_ports[]'",
            ),
            (
                "See how large its layers are:",
                "tf describe . | jq '.layers[].size'",
            ),
        ],
        exit_status: VERB_TABLE,
        files: &[DOCKER_CONFIG],
        environment: ENVIRONMENT,
        see_also: &["tf", "tf-run", "tf-last-image"],
    },
    Manual {
        page: "tf-last-image",
        notes: &[],
        examples: &[(
            "Give a name to what has just been built:",
            "docker tag $(tf last-image) web",
        )],
        exit_status: VERB_TABLE,
        files: &[DOCKER_CONFIG],
        environment: DOCKER,
        see_also: &["tf", "tf-run", "tf-describe", "docker-images"],
    },
    Manual {
        page: "tf-ps",
        notes: &[],
        examples: &[
            ("See what runs, from whichever machine:", "tf ps"),
            (
                "See on which nodes:",
                "tf ps --json | jq -r '.[] | .id + \" \" + .hostname'",
            ),
        ],
        exit_status: VERB_TABLE,
        files: &[KEYS],
        environment: ENVIRONMENT,
        see_also: &["tf", "tf-stop", "tf-resources"],
    },
    Manual {
        page: "tf-stop",
        notes: &[],
        examples: &[("End a container, by the start of its id:", "tf stop 7Kq2")],
        exit_status: VERB_TABLE,
        files: &[KEYS],
        environment: ENVIRONMENT,
        see_also: &["tf", "tf-ps"],
    },
    Manual {
        page: "tf-resources",
        notes: &[],
        examples: &[
            ("See where the next container would run:", "tf resources"),
            (
                "Count the processors of all nodes:",
                "tf resources --json | jq 'map(.cpus) | add'",
            ),
        ],
        exit_status: VERB_TABLE,
        files: &[KEYS],
        environment: ENVIRONMENT,
        see_also: &["tf", "tf-ps", "tf-node"],
    },
    Manual {
        page: "tf-account",
        notes: &[],
        examples: &[
            (
                "Join a location by the line that its administrator has sent, which is asked for:",
                "tf account join",
            ),
            (
                "Use the same account on another machine:",
                "tf account backup | ssh laptop sh",
            ),
        ],
        exit_status: VERB_TABLE,
        files: &[KEYS],
        environment: ENVIRONMENT,
        see_also: &["tf", "tf-locations", "tf-location"],
    },
    Manual {
        page: "tf-locations",
        notes: &[],
        examples: &[
            ("See where images run, and could run:", "tf locations"),
            (
                "Make the location syd.example the default one:",
                "tf locations select syd",
            ),
        ],
        exit_status: VERB_TABLE,
        files: &[KEYS],
        environment: ENVIRONMENT,
        see_also: &["tf", "tf-account"],
    },
    Manual {
        page: "tf-location",
        notes: &[
            (
                "TRUST",
                &[
                    "Users and nodes are known by their keys, and the location by its own: an invitation holds the public half of \
                 it, so that nobody else can pose as the location. An unknown key gets no answer at all.",
                    "A user sees neither the containers nor the images of another one. Whoever is revoked loses the connection at \
                 once, and all that was started over it ends.",
                ],
            ),
            (
                "LIMITS",
                &[
                    "`tf location limits` sets what each user may take, and what users without limits of their own may. Whoever \
                 asks for more is told which limit it is and how much of it is used. A lower limit ends nothing that runs, and \
                 removes nothing.",
                    "Memory is counted by what containers are allowed, not by what they use: under a limit of memory, a container \
                 without --memory is refused, as by a quota of Kubernetes. Stored bytes are those of the layers that the user \
                 has shown to possess, also where another user has them too, and of the images' descriptions; an upload that \
                 does not fit is refused before it begins, or ends where the room does. Each running tf is a session, and so \
                 is one whose connection is lost, until its time is up.",
                ],
            ),
        ],
        examples: &[
            (
                "Start a location whose containers run on this machine:",
                "sudo tf location serve --name office",
            ),
            (
                "Let somebody in, by one line to send:",
                "sudo tf location invite ann@example.com --address office.example.com",
            ),
            (
                "Let another machine run containers, too:",
                "sudo tf location invite --node rack1",
            ),
            (
                "Give everybody some room, and somebody more of it:",
                "sudo tf location limits --containers 10 --memory 8g --stored 20g\nsudo tf location limits ann@example.com \
                 --memory none",
            ),
            (
                "Show somebody out:",
                "sudo tf location revoke ann@example.com",
            ),
        ],
        exit_status: VERB_TABLE,
        files: &[SERVER_STATE],
        environment: SERVER_ENVIRONMENT,
        see_also: &["tf", "tf-node", "tf-account", "systemd.service"],
    },
    Manual {
        page: "tf-node",
        notes: &[],
        examples: &[
            (
                "Become a node by the line that `tf location invite --node` has printed, in a file:",
                "sudo tf node serve --join @invitation",
            ),
            ("Be one again after a restart:", "sudo tf node serve"),
        ],
        exit_status: VERB_TABLE,
        files: &[SERVER_STATE],
        environment: SERVER_ENVIRONMENT,
        see_also: &["tf", "tf-location", "tf-resources", "systemd.service"],
    },
    Manual {
        page: "tf-service",
        notes: &[(
            "SERVERS",
            &[
                "With --host, all of it happens on a server: tf is copied to ~/.local/lib/20ft there, or with --system to \
                 /usr/local/lib/20ft, under a name that says which version it is, and does there what it was told. The server \
                 has to be of the same kind as this machine. No keys are copied, unless --with-account says so.",
                "ssh is run with the user's own settings. It does not ask anything, and a server whose key is unknown or has \
                 changed is refused.",
            ],
        )],
        examples: &[
            (
                "See what runs as a service, and how it is:",
                "tf service ls",
            ),
            ("End one, and leave nothing of it:", "tf service rm nginx"),
            (
                "The same on a server:",
                "tf service --host root@server.example --system rm nginx",
            ),
        ],
        exit_status: VERB_TABLE,
        files: SERVICE_FILES,
        environment: SERVICE_ENVIRONMENT,
        see_also: &["tf", "tf-service-install", "systemctl", "journalctl", "ssh"],
    },
    Manual {
        page: "tf-service-install",
        notes: &[
            (
                "THE UNIT",
                &[
                    "The service runs with the same options, the same accounts and, for an image, in the same directory as if it \
                     had been run at the time. It counts as started when the container runs, or when the location or node \
                     serves. If it does not start, nothing of it is left.",
                    "An image is run again whenever it ends; a location or a node, when it fails. Containers of a node outlive \
                     a node that was killed, and it takes them back.",
                    "The unit can be read by every user of the machine, and the options in it, -e included. Secrets belong into \
                     files, which -f puts into the container. The invitation of a node is not in its unit.",
                ],
            ),
            (
                "ACCOUNTS",
                &[
                    "An image that is installed on a server by --host runs at the location that is the default one there, of the \
                     account that is there. Without one, the server itself runs it, which needs --system. --with-account gives the \
                     service a copy of the account in use here, in a directory of its own, which `tf service rm` removes.",
                ],
            ),
        ],
        examples: &[
            (
                "Keep a web server running:",
                "tf service install --offset 8000 nginx",
            ),
            (
                "On a server, for everybody, at the location that is in use here:",
                "tf service install --host root@server.example --system --with-account --public nginx",
            ),
            (
                "A location, from the start of the machine:",
                "sudo tf service install --system location --name office",
            ),
            (
                "Make another machine one of its nodes:",
                "tf service install --host root@rack1 --system node --join 20ft-pGFu...",
            ),
            (
                "An image that is called like a verb:",
                "tf service install image location",
            ),
            (
                "See what would be written:",
                "tf service install --print --offset 8000 nginx",
            ),
        ],
        exit_status: VERB_TABLE,
        files: SERVICE_FILES,
        environment: SERVICE_ENVIRONMENT,
        see_also: &[
            "tf-service",
            "tf-run",
            "tf-location",
            "tf-node",
            "systemd.service",
            "journalctl",
            "ssh",
        ],
    },
    Manual {
        page: "tfcache",
        notes: &[],
        examples: &[
            (
                "Send an image now, so that a run needs no time for it later:",
                "tfcache nginx",
            ),
            ("See what is kept:", "tfcache ls"),
        ],
        exit_status: VERB_TABLE,
        files: &[STATE, DOCKER_CONFIG],
        environment: ENVIRONMENT,
        see_also: &["tf", "tf-cache"],
    },
];
