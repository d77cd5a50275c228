-- counts: the numbers of waiting, delayed and owned ids; changes nothing. Answers: 'OK', waiting,
-- delayed, owned.

return { 'OK', redis.call('HLEN', NO), count_delayed(), redis.call('HLEN', USE) }
