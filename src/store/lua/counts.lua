-- counts: how many wait (and how many of those not before a later time) and how many are owned;
-- changes nothing.
-- Answers: 'OK', waiting, resting, owned.

return { 'OK', redis.call('HLEN', NO), resting(), redis.call('HLEN', USE) }
