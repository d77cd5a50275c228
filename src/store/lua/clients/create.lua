-- create: absent -> waiting. ARGV[2...]: how long the audit trail is kept in ms; id, config, identity,
-- record for the audit trail of each.
-- Refused: another configuration under that id; the identity belongs to another id; the quota of its
-- label is used up.
-- Answers per id: 'CREATED' 'UNCHANGED' 'CONFIG' 'IDENTITY', version, the other id or false | 'QUOTA', the
-- limit, the scope.

if #ARGV - 2 > BATCH_MAX * 4 then
    return redis.error_reply('ERR too many ids')
end
check()
of_type(HISTORY, 'hash')

local keep_ms = tonumber(ARGV[2])

local function create(id, config, identity, record)
    local current = redis.call('HGET', NO, id) or redis.call('HGET', USE, id)
    if current then
        return { current == config and 'UNCHANGED' or 'CONFIG', meta_of(id).version, false }
    end
    local other_id = identity_owner(identity, id)
    if other_id then
        return { 'IDENTITY', 0, other_id }
    end
    local quota = quotas.of(config)
    if quota and quota.clients and quotas.clients(quota.scope) >= quota.clients then
        return { 'QUOTA', quota.clients, quota.scope }
    end
    local tombstone = tombstone_of(id)
    local deleted_version = tombstone and tombstone.version ~= math.huge and tombstone.version or 0
    local version = version_after(deleted_version)
    redis.call('HSET', NO, id, config)
    set_meta(id, { version = version, was = 0, epoch = 0, identity = identity })
    quotas.count(id, quota)
    redis.call('HDEL', OWNER, id)
    redis.call('HDEL', ATTEMPT, id)
    redis.call('ZREM', RETRY, id)
    redis.call('HSET', HISTORY, id, string.format('{"since":%.0f}', version))
    if tombstone then
        remove_tombstone(id)
    end
    audit(id, 0, version, record, keep_ms)
    return { 'CREATED', version, false }
end

local results, created = {}, false
for i = 3, #ARGV, 4 do
    local result = create(ARGV[i], profile_mark.add(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3])
    created = created or result[1] == 'CREATED'
    results[#results + 1] = result
end
if created then
    wake()
end
return { 'OK', results }
