-- mark_stable: forgets the failed attempts of clients whose connection proved stable. The length of
-- the last cool-down is forgotten only after a longer stable period; otherwise release decides.
-- ARGV[2...]: node, incarnation, then ids. Ids of other owners are skipped.
-- Answers: 'OK'.

if #ARGV - 3 > BATCH_MAX then
    return redis.error_reply('ERR too many ids')
end
check()

local function forget(id)
    local attempt = attempt_of(id)
    if attempt.rest == 0 or stable_long_enough(attempt) then
        redis.call('HDEL', ATTEMPT, id)
    else
        local kept = { count = 0, rest = attempt.rest, rest_until = attempt.rest_until, calm = true }
        set_attempt(id, kept)
    end
end

for i = 4, #ARGV do
    local id = ARGV[i]
    if redis.call('HEXISTS', USE, id) == 1 and owned_by(owner_of(id), ARGV[2], ARGV[3]) then
        forget(id)
    end
end
return { 'OK' }
