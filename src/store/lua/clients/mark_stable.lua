-- mark_stable: forgets the failed attempts of clients whose connection proved stable. The length of
-- the last cool-down is forgotten only after a longer stable period; otherwise release decides. The
-- nodes whose address policy denies the broker are not forgotten: the client is not moved to them.
-- ARGV[2...]: node, incarnation, then ids. Ids of other owners are skipped.
-- Answers: 'OK'.

if #ARGV - 3 > BATCH_MAX then
    return redis.error_reply('ERR too many ids')
end
check()

local function forget(id, version)
    local attempt = attempt_of(id)
    local denied = denials_of(attempt, version)
    local kept = { count = 0 }
    if #denied > 0 then
        kept.denied, kept.denied_version, kept.at = denied, version, attempt.at
    end
    if attempt.rest ~= 0 and not stable_long_enough(attempt) then
        kept.rest, kept.rest_until, kept.calm = attempt.rest, attempt.rest_until, true
    end
    if kept.denied or kept.rest then
        set_attempt(id, kept)
    else
        redis.call('HDEL', ATTEMPT, id)
    end
end

for i = 4, #ARGV do
    local id = ARGV[i]
    local owner = redis.call('HEXISTS', USE, id) == 1 and owner_of(id)
    if owned_by(owner, ARGV[2], ARGV[3]) then
        forget(id, owner.version)
    end
end
return { 'OK' }
