# Completion of tf for fish. Made by `tf generate`.

# Sets, in the caller, what is to be known of a scope: a command or verb, with the path that leads to it.
function __tf_enter --no-scope-shadowing
    set scope $argv[1]
    switch $scope
        case _tf
            set verbs run cache describe last-image ps stop resources account locations location node service
            set implied '_tf_run'
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|--version|-[vqhV]*[vqhV])$'
            set valued '^(--location|--location-ip|--linger|--offset|--publish|--domain|--path|--env|--file|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--json|-[vqhVzit]*[pefuw])$'
            set passes_on ''
        case _tf_run
            set verbs
            set implied ''
            set own '^(--offset|--publish|--public|--browser|--domain|--path|--env|--file|--sleep|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--interactive|--tty|--timing|--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[zitvqh]*[pefzuwitvqh])$'
            set valued '^(--offset|--publish|--domain|--path|--env|--file|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--json|--location|--location-ip|--linger|-[zitvqh]*[pefuw])$'
            set passes_on 'yes'
        case _tf_cache
            set verbs add ls rm
            set implied '_tf_cache_add'
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_cache_add
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_cache_ls
            set verbs
            set implied ''
            set own '^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_cache_rm
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_describe
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_last_image
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_ps
            set verbs
            set implied ''
            set own '^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_stop
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_resources
            set verbs
            set implied ''
            set own '^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_account
            set verbs join backup
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_account_join
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_account_backup
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_locations
            set verbs ls select
            set implied ''
            set own '^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_locations_ls
            set verbs
            set implied ''
            set own '^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_locations_select
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_location
            set verbs serve invite users nodes sessions limits revoke
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_location_serve
            set verbs
            set implied ''
            set own '^(--listen|--name|--no-node|--max-linger|--max-cache|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--listen|--name|--max-linger|--max-cache|--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_location_invite
            set verbs
            set implied ''
            set own '^(--node|--expires|--address|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--expires|--address|--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_location_users
            set verbs
            set implied ''
            set own '^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_location_nodes
            set verbs
            set implied ''
            set own '^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_location_sessions
            set verbs
            set implied ''
            set own '^(--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_location_limits
            set verbs
            set implied ''
            set own '^(--containers|--memory|--stored|--sessions|--json|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--containers|--memory|--stored|--sessions|--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_location_revoke
            set verbs
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_node
            set verbs serve
            set implied ''
            set own '^(--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_node_serve
            set verbs
            set implied ''
            set own '^(--join|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--join|--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_service
            set verbs install rm ls
            set implied ''
            set own '^(--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--host|--identity|--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_service_install
            set verbs image location node
            set implied '_tf_service_install_image'
            set own '^(--print|--replace|--with-account|--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--host|--identity|--location|--location-ip|--linger|--name|--offset|--publish|--domain|--path|--env|--file|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--json|-[vqhzit]*[pefuw])$'
            set passes_on ''
        case _tf_service_install_image
            set verbs
            set implied ''
            set own '^(--name|--offset|--publish|--public|--browser|--domain|--path|--env|--file|--sleep|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--interactive|--tty|--timing|--json|--print|--replace|--with-account|--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[zitvqh]*[pefzuwitvqh])$'
            set valued '^(--name|--offset|--publish|--domain|--path|--env|--file|--entrypoint|--user|--workdir|--memory|--cpus|--pids|--json|--host|--identity|--location|--location-ip|--linger|-[zitvqh]*[pefuw])$'
            set passes_on 'yes'
        case _tf_service_install_location
            set verbs
            set implied ''
            set own '^(--listen|--name|--no-node|--max-linger|--max-cache|--print|--replace|--with-account|--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--listen|--name|--max-linger|--max-cache|--host|--identity|--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_service_install_node
            set verbs
            set implied ''
            set own '^(--join|--print|--replace|--with-account|--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--join|--host|--identity|--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_service_rm
            set verbs
            set implied ''
            set own '^(--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--host|--identity|--location|--location-ip|--linger)$'
            set passes_on ''
        case _tf_service_ls
            set verbs
            set implied ''
            set own '^(--json|--system|--host|--identity|--verbose|--quiet|--location|--location-ip|--linger|--help|-[vqh]*[vqh])$'
            set valued '^(--host|--identity|--location|--location-ip|--linger)$'
            set passes_on ''
    end
end

# Whether the cursor is in the scope of argument 1, where something of the kind of argument 2 belongs.
function __tf_in
    set -l scope
    set -l verbs
    set -l implied
    set -l own
    set -l valued
    set -l passes_on
    set -l operands 0
    set -l ended
    __tf_enter _tf

    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        set -l word $words[1]
        set -e words[1]
        if test -n "$ended"
            set operands (math $operands + 1)
        else if test "$word" = --
            test -n "$implied"; and __tf_enter $implied
            set ended yes
        else if string match -qr -- '^-.' $word
            if test -n "$implied"; and not string match -qr -- $own (string replace -r -- '=.*' '' $word)
                __tf_enter $implied
            end
            if test -n "$valued"; and string match -qr -- $valued $word
                set -e words[1]
            end
        else if contains -- $word $verbs
            __tf_enter "$scope"_(string replace -a -- - _ $word)
        else
            test -n "$implied"; and __tf_enter $implied
            set operands (math $operands + 1)
            test -n "$passes_on"; and set ended yes
        end
    end

    test "$scope" = "$argv[1]"; or return 1
    switch $argv[2]
        case option
            test -z "$ended"
        case verb
            test -z "$ended" -a $operands -eq 0
        case operand
            test $operands -eq 0 -o -z "$passes_on"
    end
end

# Names of images of the local Docker daemon, and paths.
function __tf_images
    set -l program tf
    set -l words (commandline -opc)
    if string match -q -- '*/*' $words[1]
        set program (string replace -r -- '/[^/]*$' /tf $words[1])
    end
    set -l current (commandline -ct)
    $program __complete images -- $current 2>/dev/null
    if string match -qr -- '^(\.|/|~|.*/)' $current
        __fish_complete_path $current
    end
end

complete -c tf -f
complete -c tf -n '__tf_in _tf verb' -a run -d 'Run an image, with its ports on localhost'
complete -c tf -n '__tf_in _tf verb' -a cache -d 'Make images available to the location, so that a later run sends nothing'
complete -c tf -n '__tf_in _tf verb' -a describe -d 'Print an image\'s description as JSON'
complete -c tf -n '__tf_in _tf verb' -a last-image -d 'Print the id of the most recent image of the local Docker daemon'
complete -c tf -n '__tf_in _tf verb' -a ps -d 'List your containers at the location, of all sessions'
complete -c tf -n '__tf_in _tf verb' -a stop -d 'End containers of yours, whichever session runs them'
complete -c tf -n '__tf_in _tf verb' -a resources -d 'List the nodes of the location, the one with most room first'
complete -c tf -n '__tf_in _tf verb' -a account -d 'Join a location, or take an account to another machine'
complete -c tf -n '__tf_in _tf verb' -a locations -d 'List the locations that you have an account at, or choose the default one'
complete -c tf -n '__tf_in _tf verb' -a location -d 'Serve a location, and let people and machines in'
complete -c tf -n '__tf_in _tf verb' -a node -d 'Run containers for a location on this machine'
complete -c tf -n '__tf_in _tf verb' -a service -d 'Keep an image, a location or a node running as a systemd service'
complete -c tf -n '__tf_in _tf option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf option' -s V -l version -d 'Print version'
complete -c tf -n '__tf_in _tf option' -l offset -x -d 'Add N to the local port of each exposed port: with 8000, port 80 appears on 8080'
complete -c tf -n '__tf_in _tf option' -s p -l publish -x -d 'Bind LOCAL and connect it to port REMOTE of the container'
complete -c tf -n '__tf_in _tf option' -l public -d 'Bind all addresses of this machine, not only 127.0.0.1'
complete -c tf -n '__tf_in _tf option' -l browser -d 'Open the browser once the container has answered an HTTP request with 200'
complete -c tf -n '__tf_in _tf option' -l domain -x -a '(__fish_print_hostnames)' -d 'Host for the browser; has to be a name of this machine'
complete -c tf -n '__tf_in _tf option' -l path -x -d 'Path for the browser'
complete -c tf -n '__tf_in _tf option' -s e -l env -x -a '(set -nx)' -d 'Set a variable in the container; without a value: to the value that it has here'
complete -c tf -n '__tf_in _tf option' -s f -l file -r -F -d 'Put a file into the container before it starts'
complete -c tf -n '__tf_in _tf option' -s z -l sleep -d 'Start the container, but no program in it'
complete -c tf -n '__tf_in _tf option' -l entrypoint -x -d 'Program to run, in place of the image\'s entrypoint; empty: none'
complete -c tf -n '__tf_in _tf option' -s u -l user -x -d 'User to run the program as, by name or number'
complete -c tf -n '__tf_in _tf option' -s w -l workdir -x -d 'Directory to run the program in'
complete -c tf -n '__tf_in _tf option' -l memory -x -d 'Memory the container may use, as in 512m or 1g'
complete -c tf -n '__tf_in _tf option' -l cpus -x -d 'Processors the container may use, as in 1.5'
complete -c tf -n '__tf_in _tf option' -l pids -x -d 'Processes and threads the container may have'
complete -c tf -n '__tf_in _tf option' -s i -l interactive -d 'Pass standard input to the program'
complete -c tf -n '__tf_in _tf option' -s t -l tty -d 'Give the program a terminal'
complete -c tf -n '__tf_in _tf option' -l timing -d 'Say where the time went, once the container is ready or when it ends before'
complete -c tf -n '__tf_in _tf option' -l json -r -F -d 'Write container, image, node, ip, tunnels and pid to FILE for as long as the container runs'
complete -c tf -n '__tf_in _tf operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_run option' -l offset -x -d 'Add N to the local port of each exposed port: with 8000, port 80 appears on 8080'
complete -c tf -n '__tf_in _tf_run option' -s p -l publish -x -d 'Bind LOCAL and connect it to port REMOTE of the container'
complete -c tf -n '__tf_in _tf_run option' -l public -d 'Bind all addresses of this machine, not only 127.0.0.1'
complete -c tf -n '__tf_in _tf_run option' -l browser -d 'Open the browser once the container has answered an HTTP request with 200'
complete -c tf -n '__tf_in _tf_run option' -l domain -x -a '(__fish_print_hostnames)' -d 'Host for the browser; has to be a name of this machine'
complete -c tf -n '__tf_in _tf_run option' -l path -x -d 'Path for the browser'
complete -c tf -n '__tf_in _tf_run option' -s e -l env -x -a '(set -nx)' -d 'Set a variable in the container; without a value: to the value that it has here'
complete -c tf -n '__tf_in _tf_run option' -s f -l file -r -F -d 'Put a file into the container before it starts'
complete -c tf -n '__tf_in _tf_run option' -s z -l sleep -d 'Start the container, but no program in it'
complete -c tf -n '__tf_in _tf_run option' -l entrypoint -x -d 'Program to run, in place of the image\'s entrypoint; empty: none'
complete -c tf -n '__tf_in _tf_run option' -s u -l user -x -d 'User to run the program as, by name or number'
complete -c tf -n '__tf_in _tf_run option' -s w -l workdir -x -d 'Directory to run the program in'
complete -c tf -n '__tf_in _tf_run option' -l memory -x -d 'Memory the container may use, as in 512m or 1g'
complete -c tf -n '__tf_in _tf_run option' -l cpus -x -d 'Processors the container may use, as in 1.5'
complete -c tf -n '__tf_in _tf_run option' -l pids -x -d 'Processes and threads the container may have'
complete -c tf -n '__tf_in _tf_run option' -s i -l interactive -d 'Pass standard input to the program'
complete -c tf -n '__tf_in _tf_run option' -s t -l tty -d 'Give the program a terminal'
complete -c tf -n '__tf_in _tf_run option' -l timing -d 'Say where the time went, once the container is ready or when it ends before'
complete -c tf -n '__tf_in _tf_run option' -l json -r -F -d 'Write container, image, node, ip, tunnels and pid to FILE for as long as the container runs'
complete -c tf -n '__tf_in _tf_run option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_run option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_run option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_run option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_run option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_run option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_run operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_cache verb' -a add -d 'Send an image and keep it; `add` may be left out'
complete -c tf -n '__tf_in _tf_cache verb' -a ls -d 'List the images that the location keeps'
complete -c tf -n '__tf_in _tf_cache verb' -a rm -d 'Remove kept images and free their space'
complete -c tf -n '__tf_in _tf_cache option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_cache option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_cache option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_cache option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_cache option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_cache option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_cache operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_cache_add option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_cache_add option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_cache_add option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_cache_add option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_cache_add option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_cache_add option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_cache_add operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_cache_ls option' -l json -d 'Print JSON in place of a table'
complete -c tf -n '__tf_in _tf_cache_ls option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_cache_ls option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_cache_ls option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_cache_ls option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_cache_ls option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_cache_ls option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_cache_rm option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_cache_rm option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_cache_rm option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_cache_rm option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_cache_rm option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_cache_rm option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_cache_rm operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_describe option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_describe option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_describe option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_describe option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_describe option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_describe option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_describe operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_last_image option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_last_image option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_last_image option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_last_image option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_last_image option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_last_image option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_ps option' -l json -d 'Print JSON in place of a table'
complete -c tf -n '__tf_in _tf_ps option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_ps option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_ps option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_ps option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_ps option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_ps option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_stop option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_stop option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_stop option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_stop option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_stop option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_stop option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_resources option' -l json -d 'Print JSON in place of a table'
complete -c tf -n '__tf_in _tf_resources option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_resources option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_resources option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_resources option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_resources option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_resources option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_account verb' -a join -d 'Join a location by an invitation'
complete -c tf -n '__tf_in _tf_account verb' -a backup -d 'Print a shell script that restores an account on another machine'
complete -c tf -n '__tf_in _tf_account option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_account option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_account option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_account option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_account option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_account option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_account_join option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_account_join option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_account_join option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_account_join option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_account_join option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_account_join option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_account_backup option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_account_backup option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_account_backup option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_account_backup option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_account_backup option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_account_backup option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_locations verb' -a ls -d 'List the locations that you have an account at; `ls` may be left out'
complete -c tf -n '__tf_in _tf_locations verb' -a select -d 'Make a location the default one'
complete -c tf -n '__tf_in _tf_locations option' -l json -d 'Print JSON in place of a table'
complete -c tf -n '__tf_in _tf_locations option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_locations option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_locations option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_locations option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_locations option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_locations option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_locations_ls option' -l json -d 'Print JSON in place of a table'
complete -c tf -n '__tf_in _tf_locations_ls option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_locations_ls option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_locations_ls option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_locations_ls option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_locations_ls option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_locations_ls option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_locations_select option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_locations_select option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_locations_select option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_locations_select option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_locations_select option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_locations_select option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_location verb' -a serve -d 'Serve a location in the foreground'
complete -c tf -n '__tf_in _tf_location verb' -a invite -d 'Print an invitation for a user, or for a machine that is to be a node'
complete -c tf -n '__tf_in _tf_location verb' -a users -d 'List the users who have joined'
complete -c tf -n '__tf_in _tf_location verb' -a nodes -d 'List the nodes that have joined, and those that are connected'
complete -c tf -n '__tf_in _tf_location verb' -a sessions -d 'List the clients that are connected'
complete -c tf -n '__tf_in _tf_location verb' -a limits -d 'Set what users may take of the location, or show it'
complete -c tf -n '__tf_in _tf_location verb' -a revoke -d 'Forget users or nodes, end their sessions and void their invitations'
complete -c tf -n '__tf_in _tf_location option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_location option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_location option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_location option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_location option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_location option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_location_serve option' -l listen -x -d 'Address to listen on; all addresses of this machine and port 5555 if not given'
complete -c tf -n '__tf_in _tf_location_serve option' -l name -x -d 'Name of the location for its users; at first that of the machine, later the one it has'
complete -c tf -n '__tf_in _tf_location_serve option' -l no-node -d 'Run no containers on this machine'
complete -c tf -n '__tf_in _tf_location_serve option' -l max-linger -x -d 'Longest time that a session is kept while its client has no connection, whatever --linger asks for there, as in 90s, 1h or 0, with which sessions end at once'
complete -c tf -n '__tf_in _tf_location_serve option' -l max-cache -x -d 'Most space for images: beyond it, what was used least recently is removed, and nothing that is in use'
complete -c tf -n '__tf_in _tf_location_serve option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_location_serve option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_location_serve option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_location_serve option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_location_serve option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_location_serve option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_location_invite option' -l node -d 'For a machine that is to be a node'
complete -c tf -n '__tf_in _tf_location_invite option' -l expires -x -d 'How long it can be used, as in 30m, 24h or 7d'
complete -c tf -n '__tf_in _tf_location_invite option' -l address -x -a '(__fish_print_hostnames)' -d 'Address at which the location is reached from there, if not the one it knows itself'
complete -c tf -n '__tf_in _tf_location_invite option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_location_invite option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_location_invite option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_location_invite option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_location_invite option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_location_invite option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_location_users option' -l json -d 'Print JSON in place of a table'
complete -c tf -n '__tf_in _tf_location_users option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_location_users option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_location_users option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_location_users option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_location_users option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_location_users option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_location_nodes option' -l json -d 'Print JSON in place of a table'
complete -c tf -n '__tf_in _tf_location_nodes option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_location_nodes option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_location_nodes option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_location_nodes option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_location_nodes option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_location_nodes option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_location_sessions option' -l json -d 'Print JSON in place of a table'
complete -c tf -n '__tf_in _tf_location_sessions option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_location_sessions option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_location_sessions option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_location_sessions option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_location_sessions option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_location_sessions option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_location_limits option' -l containers -x -d 'Most containers at once, over all sessions of the user'
complete -c tf -n '__tf_in _tf_location_limits option' -l memory -x -d 'Most memory of these containers together, each of which then needs a --memory of its own'
complete -c tf -n '__tf_in _tf_location_limits option' -l stored -x -d 'Most space for images, as `tf cache ls` shows it'
complete -c tf -n '__tf_in _tf_location_limits option' -l sessions -x -d 'Most sessions at once: each running tf is one'
complete -c tf -n '__tf_in _tf_location_limits option' -l json -d 'Print JSON in place of a table'
complete -c tf -n '__tf_in _tf_location_limits option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_location_limits option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_location_limits option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_location_limits option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_location_limits option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_location_limits option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_location_revoke option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_location_revoke option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_location_revoke option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_location_revoke option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_location_revoke option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_location_revoke option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_node verb' -a serve -d 'Be a node of a location, in the foreground'
complete -c tf -n '__tf_in _tf_node option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_node option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_node option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_node option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_node option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_node option' -s h -l help -d 'Print help'
complete -c tf -n '__tf_in _tf_node_serve option' -l join -x -d 'The invitation, @FILE, or `-` for standard input; not needed once the node has joined'
complete -c tf -n '__tf_in _tf_node_serve option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_node_serve option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_node_serve option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_node_serve option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_node_serve option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_node_serve option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_service verb' -a install -d 'Write the unit of a service, enable it and start it'
complete -c tf -n '__tf_in _tf_service verb' -a rm -d 'Stop services and remove all that installing them has put there'
complete -c tf -n '__tf_in _tf_service verb' -a ls -d 'List services, the user\'s and the machine\'s'
complete -c tf -n '__tf_in _tf_service option' -l system -d 'Services of the machine, which need root, in place of the calling user\'s'
complete -c tf -n '__tf_in _tf_service option' -l host -x -a '(__fish_print_hostnames)' -d 'Do it on this server, over ssh'
complete -c tf -n '__tf_in _tf_service option' -l identity -r -F -d 'File with the key for ssh'
complete -c tf -n '__tf_in _tf_service option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_service option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_service option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_service option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_service option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_service option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_service_install verb' -a image -d 'Run an image, as `tf run` does with the same options'
complete -c tf -n '__tf_in _tf_service_install verb' -a location -d 'Serve a location, as `tf location serve` does with the same options'
complete -c tf -n '__tf_in _tf_service_install verb' -a node -d 'Be a node of a location, as `tf node serve` does'
complete -c tf -n '__tf_in _tf_service_install option' -l print -d 'Print the unit, and change nothing'
complete -c tf -n '__tf_in _tf_service_install option' -l replace -d 'Take the place of the service of this name, if there is one'
complete -c tf -n '__tf_in _tf_service_install option' -l with-account -d 'With --host, give the service a copy of the account that is used here'
complete -c tf -n '__tf_in _tf_service_install option' -l system -d 'Services of the machine, which need root, in place of the calling user\'s'
complete -c tf -n '__tf_in _tf_service_install option' -l host -x -a '(__fish_print_hostnames)' -d 'Do it on this server, over ssh'
complete -c tf -n '__tf_in _tf_service_install option' -l identity -r -F -d 'File with the key for ssh'
complete -c tf -n '__tf_in _tf_service_install option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_service_install option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_service_install option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_service_install option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_service_install option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_service_install option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_service_install option' -l name -x -d 'Name of the service; that of the image if not given'
complete -c tf -n '__tf_in _tf_service_install option' -l offset -x -d 'Add N to the local port of each exposed port: with 8000, port 80 appears on 8080'
complete -c tf -n '__tf_in _tf_service_install option' -s p -l publish -x -d 'Bind LOCAL and connect it to port REMOTE of the container'
complete -c tf -n '__tf_in _tf_service_install option' -l public -d 'Bind all addresses of this machine, not only 127.0.0.1'
complete -c tf -n '__tf_in _tf_service_install option' -l browser -d 'Open the browser once the container has answered an HTTP request with 200'
complete -c tf -n '__tf_in _tf_service_install option' -l domain -x -a '(__fish_print_hostnames)' -d 'Host for the browser; has to be a name of this machine'
complete -c tf -n '__tf_in _tf_service_install option' -l path -x -d 'Path for the browser'
complete -c tf -n '__tf_in _tf_service_install option' -s e -l env -x -a '(set -nx)' -d 'Set a variable in the container; without a value: to the value that it has here'
complete -c tf -n '__tf_in _tf_service_install option' -s f -l file -r -F -d 'Put a file into the container before it starts'
complete -c tf -n '__tf_in _tf_service_install option' -s z -l sleep -d 'Start the container, but no program in it'
complete -c tf -n '__tf_in _tf_service_install option' -l entrypoint -x -d 'Program to run, in place of the image\'s entrypoint; empty: none'
complete -c tf -n '__tf_in _tf_service_install option' -s u -l user -x -d 'User to run the program as, by name or number'
complete -c tf -n '__tf_in _tf_service_install option' -s w -l workdir -x -d 'Directory to run the program in'
complete -c tf -n '__tf_in _tf_service_install option' -l memory -x -d 'Memory the container may use, as in 512m or 1g'
complete -c tf -n '__tf_in _tf_service_install option' -l cpus -x -d 'Processors the container may use, as in 1.5'
complete -c tf -n '__tf_in _tf_service_install option' -l pids -x -d 'Processes and threads the container may have'
complete -c tf -n '__tf_in _tf_service_install option' -s i -l interactive -d 'Pass standard input to the program'
complete -c tf -n '__tf_in _tf_service_install option' -s t -l tty -d 'Give the program a terminal'
complete -c tf -n '__tf_in _tf_service_install option' -l timing -d 'Say where the time went, once the container is ready or when it ends before'
complete -c tf -n '__tf_in _tf_service_install option' -l json -r -F -d 'Write container, image, node, ip, tunnels and pid to FILE for as long as the container runs'
complete -c tf -n '__tf_in _tf_service_install operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_service_install_image option' -l name -x -d 'Name of the service; that of the image if not given'
complete -c tf -n '__tf_in _tf_service_install_image option' -l offset -x -d 'Add N to the local port of each exposed port: with 8000, port 80 appears on 8080'
complete -c tf -n '__tf_in _tf_service_install_image option' -s p -l publish -x -d 'Bind LOCAL and connect it to port REMOTE of the container'
complete -c tf -n '__tf_in _tf_service_install_image option' -l public -d 'Bind all addresses of this machine, not only 127.0.0.1'
complete -c tf -n '__tf_in _tf_service_install_image option' -l browser -d 'Open the browser once the container has answered an HTTP request with 200'
complete -c tf -n '__tf_in _tf_service_install_image option' -l domain -x -a '(__fish_print_hostnames)' -d 'Host for the browser; has to be a name of this machine'
complete -c tf -n '__tf_in _tf_service_install_image option' -l path -x -d 'Path for the browser'
complete -c tf -n '__tf_in _tf_service_install_image option' -s e -l env -x -a '(set -nx)' -d 'Set a variable in the container; without a value: to the value that it has here'
complete -c tf -n '__tf_in _tf_service_install_image option' -s f -l file -r -F -d 'Put a file into the container before it starts'
complete -c tf -n '__tf_in _tf_service_install_image option' -s z -l sleep -d 'Start the container, but no program in it'
complete -c tf -n '__tf_in _tf_service_install_image option' -l entrypoint -x -d 'Program to run, in place of the image\'s entrypoint; empty: none'
complete -c tf -n '__tf_in _tf_service_install_image option' -s u -l user -x -d 'User to run the program as, by name or number'
complete -c tf -n '__tf_in _tf_service_install_image option' -s w -l workdir -x -d 'Directory to run the program in'
complete -c tf -n '__tf_in _tf_service_install_image option' -l memory -x -d 'Memory the container may use, as in 512m or 1g'
complete -c tf -n '__tf_in _tf_service_install_image option' -l cpus -x -d 'Processors the container may use, as in 1.5'
complete -c tf -n '__tf_in _tf_service_install_image option' -l pids -x -d 'Processes and threads the container may have'
complete -c tf -n '__tf_in _tf_service_install_image option' -s i -l interactive -d 'Pass standard input to the program'
complete -c tf -n '__tf_in _tf_service_install_image option' -s t -l tty -d 'Give the program a terminal'
complete -c tf -n '__tf_in _tf_service_install_image option' -l timing -d 'Say where the time went, once the container is ready or when it ends before'
complete -c tf -n '__tf_in _tf_service_install_image option' -l json -r -F -d 'Write container, image, node, ip, tunnels and pid to FILE for as long as the container runs'
complete -c tf -n '__tf_in _tf_service_install_image option' -l print -d 'Print the unit, and change nothing'
complete -c tf -n '__tf_in _tf_service_install_image option' -l replace -d 'Take the place of the service of this name, if there is one'
complete -c tf -n '__tf_in _tf_service_install_image option' -l with-account -d 'With --host, give the service a copy of the account that is used here'
complete -c tf -n '__tf_in _tf_service_install_image option' -l system -d 'Services of the machine, which need root, in place of the calling user\'s'
complete -c tf -n '__tf_in _tf_service_install_image option' -l host -x -a '(__fish_print_hostnames)' -d 'Do it on this server, over ssh'
complete -c tf -n '__tf_in _tf_service_install_image option' -l identity -r -F -d 'File with the key for ssh'
complete -c tf -n '__tf_in _tf_service_install_image option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_service_install_image option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_service_install_image option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_service_install_image option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_service_install_image option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_service_install_image option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_service_install_image operand' -a '(__tf_images)'
complete -c tf -n '__tf_in _tf_service_install_location option' -l listen -x -d 'Address to listen on; all addresses of this machine and port 5555 if not given'
complete -c tf -n '__tf_in _tf_service_install_location option' -l name -x -d 'Name of the location for its users; at first that of the machine, later the one it has'
complete -c tf -n '__tf_in _tf_service_install_location option' -l no-node -d 'Run no containers on this machine'
complete -c tf -n '__tf_in _tf_service_install_location option' -l max-linger -x -d 'Longest time that a session is kept while its client has no connection, whatever --linger asks for there, as in 90s, 1h or 0, with which sessions end at once'
complete -c tf -n '__tf_in _tf_service_install_location option' -l max-cache -x -d 'Most space for images: beyond it, what was used least recently is removed, and nothing that is in use'
complete -c tf -n '__tf_in _tf_service_install_location option' -l print -d 'Print the unit, and change nothing'
complete -c tf -n '__tf_in _tf_service_install_location option' -l replace -d 'Take the place of the service of this name, if there is one'
complete -c tf -n '__tf_in _tf_service_install_location option' -l with-account -d 'With --host, give the service a copy of the account that is used here'
complete -c tf -n '__tf_in _tf_service_install_location option' -l system -d 'Services of the machine, which need root, in place of the calling user\'s'
complete -c tf -n '__tf_in _tf_service_install_location option' -l host -x -a '(__fish_print_hostnames)' -d 'Do it on this server, over ssh'
complete -c tf -n '__tf_in _tf_service_install_location option' -l identity -r -F -d 'File with the key for ssh'
complete -c tf -n '__tf_in _tf_service_install_location option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_service_install_location option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_service_install_location option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_service_install_location option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_service_install_location option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_service_install_location option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_service_install_node option' -l join -x -d 'The invitation, which is used at once: itself, @FILE, or - for standard input; not needed once the node has joined'
complete -c tf -n '__tf_in _tf_service_install_node option' -l print -d 'Print the unit, and change nothing'
complete -c tf -n '__tf_in _tf_service_install_node option' -l replace -d 'Take the place of the service of this name, if there is one'
complete -c tf -n '__tf_in _tf_service_install_node option' -l with-account -d 'With --host, give the service a copy of the account that is used here'
complete -c tf -n '__tf_in _tf_service_install_node option' -l system -d 'Services of the machine, which need root, in place of the calling user\'s'
complete -c tf -n '__tf_in _tf_service_install_node option' -l host -x -a '(__fish_print_hostnames)' -d 'Do it on this server, over ssh'
complete -c tf -n '__tf_in _tf_service_install_node option' -l identity -r -F -d 'File with the key for ssh'
complete -c tf -n '__tf_in _tf_service_install_node option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_service_install_node option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_service_install_node option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_service_install_node option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_service_install_node option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_service_install_node option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_service_rm option' -l system -d 'Services of the machine, which need root, in place of the calling user\'s'
complete -c tf -n '__tf_in _tf_service_rm option' -l host -x -a '(__fish_print_hostnames)' -d 'Do it on this server, over ssh'
complete -c tf -n '__tf_in _tf_service_rm option' -l identity -r -F -d 'File with the key for ssh'
complete -c tf -n '__tf_in _tf_service_rm option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_service_rm option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_service_rm option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_service_rm option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_service_rm option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_service_rm option' -s h -l help -d 'Print help (see more with \'--help\')'
complete -c tf -n '__tf_in _tf_service_ls option' -l json -d 'Print JSON in place of a table'
complete -c tf -n '__tf_in _tf_service_ls option' -l system -d 'Services of the machine, which need root, in place of the calling user\'s'
complete -c tf -n '__tf_in _tf_service_ls option' -l host -x -a '(__fish_print_hostnames)' -d 'Do it on this server, over ssh'
complete -c tf -n '__tf_in _tf_service_ls option' -l identity -r -F -d 'File with the key for ssh'
complete -c tf -n '__tf_in _tf_service_ls option' -s v -l verbose -d 'Say what is being done; twice: in every detail'
complete -c tf -n '__tf_in _tf_service_ls option' -s q -l quiet -d 'Say nothing but errors'
complete -c tf -n '__tf_in _tf_service_ls option' -l location -x -d 'Use this location, in place of the default one'
complete -c tf -n '__tf_in _tf_service_ls option' -l location-ip -x -a '(__fish_print_hostnames)' -d 'Reach the location at this address'
complete -c tf -n '__tf_in _tf_service_ls option' -l linger -x -d 'How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session ends at once; 2m if not given, and never longer than the location allows'
complete -c tf -n '__tf_in _tf_service_ls option' -s h -l help -d 'Print help (see more with \'--help\')'
