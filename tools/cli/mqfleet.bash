# Completion of mqfleet for bash: source <(mqfleet completion bash)
_mqfleet() {
    local IFS=$'\n'
    COMPREPLY=($(mqfleet __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    if [ "${#COMPREPLY[@]}" -eq 0 ]; then
        case "${COMP_WORDS[COMP_CWORD - 1]}" in
            -f | --file | --ca | --token-file | check) COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")) ;;
        esac
    fi
}
complete -F _mqfleet mqfleet
