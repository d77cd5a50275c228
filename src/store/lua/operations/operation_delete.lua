-- operation_delete: commits a step of an operation that deletes, also when Redis is full; see
-- run_step. ARGV of each id after `what` ('delete'): expected version, record for the audit trail,
-- -, -. Otherwise as in operation_step.
-- Answers: 'OK', state of the operation | 'FENCED' | 'STATE'.

return run_step(function(i, keep_ms)
    if ARGV[i + 1] ~= 'delete' then
        return ARGV[i + 1], ARGV[i + 3], ARGV[i + 4]
    end
    local status = delete_configuration(ARGV[i], tonumber(ARGV[i + 2]), ARGV[i + 3], keep_ms)
    if status == 'OK' then
        return 'done'
    elseif status == 'VERSION' then
        return 'later', 'version_conflict', 'other callers keep changing it'
    end
    return 'skipped', 'not_found'
end)
