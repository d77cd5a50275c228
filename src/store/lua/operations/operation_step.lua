-- operation_step: commits a step of an operation; see run_step. ARGV of each id after `what`:
-- 'update': expected version, config, identity, record for the audit trail. 'done'. 'skipped',
-- 'failed' and 'later': -, reason, detail, -. 'later': it is tried again after the others, and fails
-- in the end.
-- Answers: 'OK', state of the operation | 'FENCED' | 'STATE'.

return run_step(function(i, keep_ms)
    local what = ARGV[i + 1]
    if what == 'done' then
        return what
    elseif what ~= 'update' then
        return what, ARGV[i + 3], ARGV[i + 4]
    end
    local status, detail, changed = update_configuration(ARGV[i], tonumber(ARGV[i + 2]), ARGV[i + 3],
        ARGV[i + 4], ARGV[i + 5], keep_ms)
    if status == 'OK' then
        return changed and 'done' or 'skipped', not changed and 'unchanged' or nil
    elseif status == 'NOT_FOUND' then
        return 'skipped', 'not_found'
    elseif status == 'EXISTS' then
        return 'failed', 'identity_taken', detail
    end
    return 'later', 'version_conflict', 'other callers keep changing it'
end)
