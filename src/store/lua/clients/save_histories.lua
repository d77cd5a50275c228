-- save_histories: stores what clients have done so far, for the node that runs them after this one.
-- ARGV[2...]: node, incarnation, then id, epoch, history of each.
-- Skipped: an id that this incarnation does not own at this epoch.
-- Answers: 'OK'.

if #ARGV - 3 > BATCH_MAX * 3 then
    return redis.error_reply('ERR too many ids')
end
of_type(HISTORY, 'hash')
for i = 4, #ARGV, 3 do
    local id = ARGV[i]
    local owner = redis.call('HEXISTS', USE, id) == 1 and owner_of(id)
    if owned_by(owner, ARGV[2], ARGV[3]) and owner.epoch == tonumber(ARGV[i + 1]) then
        redis.call('HSET', HISTORY, id, ARGV[i + 2])
    end
end
return { 'OK' }
