-- update: a new version in place, waiting or owned. ARGV[2...]: id, expected version (0: any),
-- config, identity, record for the audit trail ('': none), how long the trail is kept in ms.
-- Refused: no such id; another version; the identity belongs to another id.
-- Answers: 'OK', version | 'NOT_FOUND' | 'VERSION' | 'EXISTS', the other id.

check()
local status, detail = update_configuration(ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6],
    tonumber(ARGV[7]))
finish_configurations()
return { status, detail }
