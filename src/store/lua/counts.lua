-- counts: how many wait (and how many of those not before a later time) and how many are owned;
-- changes nothing.
-- Answers: 'OK', waiting, resting, owned.

return { 'OK', redis.call('HLEN', NO), redis.call('ZCOUNT', RETRY, '(' .. NOW_MS, '+inf'),
         redis.call('HLEN', USE) }
