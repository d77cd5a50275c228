-- counts: how many wait and how many are owned; changes nothing.
-- Answers: 'OK', waiting, owned.

return { 'OK', redis.call('HLEN', NO), redis.call('HLEN', USE) }
