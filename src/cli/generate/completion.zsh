# Names of images of the local Docker daemon, and paths.
@FUNCTION@_images() {
    local -a images=(${(f)"$(_call_program images ${(q)program} __complete images -- ${(q)PREFIX} 2>/dev/null)"})
    local -i found=1
    (( $#images )) && compadd -a images && found=0
    [[ $PREFIX == (.|*/|\~)* ]] && _files && found=0
    return found
}
