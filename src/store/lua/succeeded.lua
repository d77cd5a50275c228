-- succeeded: forgets the failed attempts of clients that are online. ARGV[2...]: node, incarnation,
-- then ids. Skipped: what this incarnation does not own.
-- Answers: 'OK'.

if #ARGV - 3 > BATCH_MAX then
    return redis.error_reply('ERR too many ids')
end
check()
for i = 4, #ARGV do
    local id = ARGV[i]
    if redis.call('HEXISTS', USE, id) == 1 and owned_by(owner_of(id), ARGV[2], ARGV[3]) then
        redis.call('HDEL', ATTEMPT, id)
    end
end
return { 'OK' }
