-- Operations: one action on many clients, whose ids were fixed at its start. A hash holds its
-- description and progress, a list the ids that are left. A step names the position at which it
-- begins, so that each step is committed once, whoever executes it.

-- Limits for all callers without a scope together, and for all callers with the same scope. So one tenant
-- cannot keep others from starting operations, nor push theirs out of the list.
local OPERATIONS_RUNNING_MAX = 16
local OPERATIONS_MAX = 100 -- running and ended
local OPERATION_FAILURES_MAX = 100 -- listed with their details; all are counted
local OPERATION_UPLOAD_MS = 600000 -- limit of an upload of ids, after which it is dropped

local function operation_state(id)
    local state = redis.pcall('HGET', operation_key(id), 'state')
    return type(state) == 'string' and state or nil
end

-- A number among its fields.
local function operation_number(id, field)
    return to_integer(redis.call('HGET', operation_key(id), field)) or 0
end

local function end_operation(id, state)
    redis.call('HSET', operation_key(id), 'state', state, 'ended', NOW_MS)
    redis.call('HDEL', operation_key(id), 'patch')
    redis.call('DEL', operation_ids_key(id))
end

local function forget_operation(id)
    redis.call('ZREM', OPERATIONS, id)
    redis.call('DEL', operation_key(id), operation_ids_key(id))
end

local function operation_scope(id)
    return redis.call('HGET', operation_key(id), 'scope') or ''
end

-- Whether an operation, or an upload of ids that was given up, is to be forgotten.
local function operation_is_old(state, age_ms, keep_ms)
    return age_ms > (state and keep_ms or OPERATION_UPLOAD_MS)
end

-- The newest ones of each scope remain; running ones always do. Returns how many run by scope.
local function trim_operations(keep_ms)
    local ids = redis.call('ZRANGEBYSCORE', OPERATIONS, '-inf', '+inf', 'WITHSCORES')
    local counts, running = {}, {}
    for i = #ids - 1, 1, -2 do -- the newest first
        local id, state, age_ms = ids[i], operation_state(ids[i]), NOW_MS - to_integer(ids[i + 1])
        local scope = state and operation_scope(id) or ''
        counts[scope] = (counts[scope] or 0) + (state and 1 or 0)
        if state == 'running' then
            running[scope] = (running[scope] or 0) + 1
        elseif operation_is_old(state, age_ms, keep_ms) or state and counts[scope] > OPERATIONS_MAX then
            forget_operation(id)
        end
    end
    return running
end

-- What became of the ids of one step.
local function new_outcomes()
    return { done = 0, skipped = 0, failed = 0, later = {}, reasons = {}, failures = {} }
end

local function note_outcome(outcomes, kind, id, reason, detail)
    outcomes[kind] = outcomes[kind] + 1
    if reason then
        outcomes.reasons[reason] = (outcomes.reasons[reason] or 0) + 1
    end
    if kind == 'failed' then
        table.insert(outcomes.failures, cjson.encode({ id = id, reason = reason, detail = detail }))
    end
end

local function add_reasons(id, reasons)
    for reason, count in pairs(reasons) do
        local field = 'reason:' .. reason
        redis.call('HSET', operation_key(id), field, operation_number(id, field) + count)
    end
end

local function add_failures(id, failures)
    local text = redis.call('HGET', operation_key(id), 'failures') or ''
    local _, count = string.gsub(text, '\n', '\n')
    for i = 1, math.min(#failures, OPERATION_FAILURES_MAX - count) do
        text = text .. failures[i] .. '\n'
    end
    if text ~= '' then
        redis.call('HSET', operation_key(id), 'failures', text)
    end
end

-- Commits a step that began at `position` and looked at `count` ids. Ids that
-- must be tried later are appended.
local function commit_step(id, position, count, outcomes)
    local key = operation_key(id)
    for _, kind in ipairs({ 'done', 'skipped', 'failed' }) do
        redis.call('HSET', key, kind, operation_number(id, kind) + outcomes[kind])
    end
    add_reasons(id, outcomes.reasons)
    add_failures(id, outcomes.failures)
    if #outcomes.later > 0 then
        redis.call('RPUSH', operation_ids_key(id), unpack(outcomes.later))
        redis.call('HSET', key, 'deferred', operation_number(id, 'deferred') + #outcomes.later)
    end
    redis.call('HSET', key, 'position', position + count)
    if position + count >= redis.call('LLEN', operation_ids_key(id)) then
        end_operation(id, 'done')
    end
end

-- Ids that could not be changed now are tried later, on average this often.
local OPERATION_DEFERRED_MAX = 20

local function may_defer(id)
    local most = OPERATION_DEFERRED_MAX * operation_number(id, 'total')
    return operation_number(id, 'deferred') < most
end

-- One step: ARGV[2...]: node and incarnation of the executor, operation, position, how long the
-- audit trail is kept in ms; then id, what (a word), and four more of each id. apply: changes one.
-- Refused: the executor is not a member ('FENCED'); the operation does not run, or another step was
-- committed at that position ('STATE').
local OPERATION_ITEM_ARGS = 6

local function run_step(apply)
    local id, position = ARGV[4], tonumber(ARGV[5])
    if not member(ARGV[2], ARGV[3]) then
        return { 'FENCED' }
    end
    if operation_state(id) ~= 'running' or operation_number(id, 'position') ~= position then
        return { 'STATE' }
    end
    check()
    local outcomes, later = new_outcomes(), may_defer(id)
    local count = 0
    for i = 7, #ARGV, OPERATION_ITEM_ARGS do
        local kind, reason, detail = apply(i, tonumber(ARGV[6]))
        count = count + 1
        if kind == 'later' and later then
            table.insert(outcomes.later, ARGV[i])
        else
            note_outcome(outcomes, kind == 'later' and 'failed' or kind, ARGV[i], reason, detail)
        end
    end
    finish_configurations()
    commit_step(id, position, count, outcomes)
    redis.call('HSET', operation_key(id), 'executor', ARGV[2])
    return { 'OK', operation_state(id) }
end
