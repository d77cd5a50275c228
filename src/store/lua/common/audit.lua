-- The audit trail: who changed the configuration of a client, when, and which fields. A record is
-- opaque JSON without secrets; the script adds the time and the versions.

local AUDIT_RECORDS_MAX = 16 -- of a client
local AUDIT_CLIENTS_MAX = 200000
local AUDIT_FORGOTTEN_MAX = 20 -- clients, by one call

-- A line "time from to record" for each, the oldest first. Older ones than keep_ms are left out.
local function audit_lines(id, keep_ms)
    local lines = {}
    local text = redis.pcall('HGET', AUDIT, id)
    for line in string.gmatch(type(text) == 'string' and text or '', '[^\n]+') do
        local time_ms = to_integer(string.match(line, '^(%d+) %d+ %d+ {'))
        if time_ms and time_ms > NOW_MS - keep_ms then
            lines[#lines + 1] = line
        end
    end
    return lines
end

local function forget_audit(ids)
    for _, id in ipairs(ids) do
        redis.call('ZREM', AUDITED, id)
        redis.call('HDEL', AUDIT, id)
    end
end

-- Each record removes a few that are old, or the oldest ones if there are too many.
local function trim_audit(keep_ms)
    forget_audit(redis.call('ZRANGEBYSCORE', AUDITED, '-inf', NOW_MS - keep_ms, 'LIMIT', 0,
        AUDIT_FORGOTTEN_MAX))
    if redis.call('ZCARD', AUDITED) > AUDIT_CLIENTS_MAX then
        forget_audit(redis.call('ZRANGEBYSCORE', AUDITED, '-inf', '+inf', 'LIMIT', 0,
            AUDIT_FORGOTTEN_MAX))
    end
end

local audit_begun = false -- by this call of the script

-- from: 0 if the client was created. to: 0 if it was deleted. record '': the caller wants none.
-- With keep_ms 0, no changes are kept.
local function audit(id, from, to, record, keep_ms)
    if record == '' or keep_ms <= 0 then
        return
    end
    if not audit_begun then
        of_type(AUDIT, 'hash')
        of_type(AUDITED, 'zset')
        audit_begun = true
    end
    trim_audit(keep_ms)
    local lines = audit_lines(id, keep_ms)
    lines[#lines + 1] = string.format('%.0f %.0f %.0f ', NOW_MS, from, to) .. record
    while #lines > AUDIT_RECORDS_MAX do
        table.remove(lines, 1)
    end
    redis.call('HSET', AUDIT, id, table.concat(lines, '\n'))
    redis.call('ZADD', AUDITED, NOW_MS, id)
end
