"""What the Redis ledger changes and reads, as Lua scripts: each is one step that nothing comes between.

Redis runs one script at a time, and writes what it changed to its log as one transaction. The time is the
server's own, in whole microseconds, which Lua's numbers hold exactly.

    stochcon:jobs           sorted set   ids of all jobs, whose order is that of their making
    stochcon:turns          sorted set   queued and running jobs, the least recently leased first
    stochcon:turn           number       leases so far
    stochcon:job:ID:facts     hash         the job itself
    stochcon:job:ID:shards    hash         number -> its places, for all shards that are not done
    stochcon:job:ID:waiting   sorted set   numbers of the shards that nobody has
    stochcon:job:ID:leased    sorted set   numbers of the others, by when their leases run out
    stochcon:job:ID:tokens    hash         number -> token of the lease
    stochcon:job:ID:workers   hash         number -> who has it
    stochcon:job:ID:attempts  hash         number -> leases so far
    stochcon:job:ID:failures  list         place in JSON, a line feed, id and reason in JSON
    stochcon:job:ID:settled   sorted set   "number:images", by when the shard was completed

A job that is queued, running, paused or failed has at least one shard. Redis removes empty keys itself.
"""

from service.jobs.ledger import RATE_WINDOW_S, SHARD_PLACES

_PRELUDE = (
    f"""
local RATE_WINDOW = {RATE_WINDOW_S * 1e6:.0f}
local SHARD_PLACES = {SHARD_PLACES}
"""
    + """
local PARTS = {'facts', 'shards', 'waiting', 'leased', 'tokens', 'workers', 'attempts', 'failures', 'settled'}
local FACTS = {'spec', 'state', 'created', 'started', 'finished', 'is_scanned',
               'found', 'added', 'updated', 'skipped', 'failed', 'reason'}
local IS_OPEN = {queued = true, running = true, paused = true}

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- As Lua writes large numbers by itself, digits are lost.
local function text(number) return string.format('%.0f', number) end

local function key(id, part) return 'stochcon:job:' .. id .. ':' .. part end
local function get(id, fact) return redis.call('HGET', key(id, 'facts'), fact) end
local function set(id, ...) redis.call('HSET', key(id, 'facts'), ...) end
local function unset(id, ...) redis.call('HDEL', key(id, 'facts'), ...) end
local function add(id, fact, number) return redis.call('HINCRBY', key(id, 'facts'), fact, number) end
local function is_known(id) return redis.call('ZSCORE', 'stochcon:jobs', id) end

local function add_shard(id, places)
  local number = add(id, 'next_shard', 1) - 1
  redis.call('HSET', key(id, 'shards'), number, places)
  redis.call('ZADD', key(id, 'waiting'), number, number)
end

local function add_failures(id, first)
  for i = first, #ARGV do redis.call('RPUSH', key(id, 'failures'), ARGV[i]) end
end

-- The shard waits again.
local function release(id, number)
  redis.call('ZREM', key(id, 'leased'), number)
  redis.call('HDEL', key(id, 'tokens'), number)
  redis.call('HDEL', key(id, 'workers'), number)
  redis.call('ZADD', key(id, 'waiting'), number, number)
end

local function remove_shard(id, number)
  for _, part in ipairs({'shards', 'tokens', 'workers', 'attempts'}) do
    redis.call('HDEL', key(id, part), number)
  end
  redis.call('ZREM', key(id, 'leased'), number)
end

local function take_turns(id, state)
  set(id, 'state', state)
  redis.call('ZADD', 'stochcon:turns', get(id, 'turn'), id)
end

local function finish(id, state)
  set(id, 'state', state, 'finished', text(now))
  unset(id, 'reason')
  redis.call('ZREM', 'stochcon:turns', id)
  redis.call('DEL', key(id, 'settled'))
end

local function count_workers(id)
  local seen, count = {}, 0
  for _, number in ipairs(redis.call('ZRANGEBYSCORE', key(id, 'leased'), '(' .. text(now), '+inf')) do
    local worker = redis.call('HGET', key(id, 'workers'), number)
    if not seen[worker] then
      seen[worker] = true
      count = count + 1
    end
  end
  return count
end

local function describe(id)
  local images, since = 0, now
  local indexing_since = get(id, 'indexing_since')
  if get(id, 'state') == 'running' and indexing_since then
    since = math.max(tonumber(indexing_since), now - RATE_WINDOW)
    for _, entry in ipairs(redis.call('ZRANGEBYSCORE', key(id, 'settled'), text(since), '+inf')) do
      images = images + entry:match(':(%d+)$')
    end
  end
  local facts = redis.call('HMGET', key(id, 'facts'), unpack(FACTS))
  return {id, facts, count_workers(id), images, text(now - since)}
end
"""
)

_OF_JOB = """
local id = ARGV[1]
if not is_known(id) then return false end
local state = get(id, 'state')
"""

_OF_OPEN_JOB = (
    _OF_JOB
    + """
if not IS_OPEN[state] then return {0, state} end
"""
)

_OF_HOLDER = """
local id, number = ARGV[1], ARGV[2]
if redis.call('HGET', key(id, 'tokens'), number) ~= ARGV[3]
    or tonumber(redis.call('ZSCORE', key(id, 'leased'), number)) <= now then
  return 0
end
"""

_SUBMIT = """
-- A UUID of version 7: milliseconds, parts of one, and what the caller drew.
local ms = math.floor(now / 1000)
local id = string.format('%08x-%04x-7%03x-%s', math.floor(ms / 65536), ms % 65536,
                         math.floor(now % 1000 * 4.096), ARGV[1])
redis.call('ZADD', 'stochcon:jobs', 0, id)
set(id, 'spec', ARGV[2], 'created', text(now), 'is_scanned', 0, 'turn', 0,
    'found', 0, 'added', 0, 'updated', 0, 'skipped', 0, 'failed', 0)
add_shard(id, ARGV[3])
take_turns(id, 'queued')
return describe(id)
"""

_JOB = (
    _OF_JOB
    + """
return describe(id)
"""
)

_JOBS = """
local jobs = {}
for _, id in ipairs(redis.call('ZREVRANGEBYLEX', 'stochcon:jobs', ARGV[1], '-', 'LIMIT', 0, ARGV[2])) do
  table.insert(jobs, describe(id))
end
return jobs
"""

_FAILURES = (
    _OF_JOB
    + """
local skip, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
if limit < 1 then return {} end
return redis.call('LRANGE', key(id, 'failures'), skip, skip + limit - 1)
"""
)

_PAUSE = (
    _OF_OPEN_JOB
    + """
set(id, 'state', 'paused')
unset(id, 'indexing_since')
redis.call('ZREM', 'stochcon:turns', id)
return {1, describe(id)}
"""
)

_RESUME = (
    _OF_OPEN_JOB
    + """
if state == 'paused' then take_turns(id, get(id, 'started') and 'running' or 'queued') end
return {1, describe(id)}
"""
)

_CANCEL = (
    _OF_OPEN_JOB
    + """
for _, part in ipairs({'shards', 'waiting', 'leased', 'tokens', 'workers', 'attempts'}) do
  redis.call('UNLINK', key(id, part))
end
finish(id, 'cancelled')
return {1, describe(id)}
"""
)

_RETRY = (
    _OF_JOB
    + """
local again, kept = {}, {}
for _, failure in ipairs(redis.call('LRANGE', key(id, 'failures'), 0, -1)) do
  local place = failure:match('^[^\\n]*')
  if place == 'null' then table.insert(kept, failure) else table.insert(again, place) end
end
if state == 'cancelled' or (#again == 0 and state ~= 'failed') then return {0, state} end
redis.call('DEL', key(id, 'failures'))
for _, failure in ipairs(kept) do redis.call('RPUSH', key(id, 'failures'), failure) end
if state == 'failed' then redis.call('DEL', key(id, 'attempts')) end
for first = 1, #again, SHARD_PLACES do
  local last = math.min(first + SHARD_PLACES - 1, #again)
  add_shard(id, '[' .. table.concat(again, ',', first, last) .. ']')
end
add(id, 'failed', 0 - #again)  -- There is a -0, which Redis takes for no whole number.
if not IS_OPEN[state] then
  unset(id, 'finished', 'reason', 'indexing_since')
  take_turns(id, 'running')
end
return {1, describe(id)}
"""
)

_FORGET = (
    _OF_JOB
    + """
if IS_OPEN[state] then return {0, state} end
for _, part in ipairs(PARTS) do redis.call('UNLINK', key(id, part)) end
redis.call('ZREM', 'stochcon:jobs', id)
return {1, false}
"""
)

_HAS_WORK = """
return redis.call('EXISTS', 'stochcon:turns')
"""

_NUM_WAITING = """
local count = 0
for _, id in ipairs(redis.call('ZRANGE', 'stochcon:turns', 0, -1)) do
  count = count + redis.call('ZCARD', key(id, 'waiting'))
      + redis.call('ZCOUNT', key(id, 'leased'), '-inf', text(now))
end
return count
"""

_LEASE = """
local token, worker, duration = ARGV[1], ARGV[2], tonumber(ARGV[3])
for _, id in ipairs(redis.call('ZRANGE', 'stochcon:turns', 0, -1)) do
  -- One that was lost, or else the first.
  local number = redis.call('ZRANGEBYSCORE', key(id, 'leased'), '-inf', text(now), 'LIMIT', 0, 1)[1]
      or redis.call('ZRANGE', key(id, 'waiting'), 0, 0)[1]
  if number then
    redis.call('ZREM', key(id, 'waiting'), number)
    redis.call('ZADD', key(id, 'leased'), text(now + duration), number)
    redis.call('HSET', key(id, 'tokens'), number, token)
    redis.call('HSET', key(id, 'workers'), number, worker)
    local attempt = redis.call('HINCRBY', key(id, 'attempts'), number, 1)
    local turn = redis.call('INCR', 'stochcon:turn')
    redis.call('ZADD', 'stochcon:turns', turn, id)
    set(id, 'state', 'running', 'turn', turn)
    redis.call('HSETNX', key(id, 'facts'), 'started', text(now))
    if number ~= '0' then redis.call('HSETNX', key(id, 'facts'), 'indexing_since', text(now)) end
    local places = redis.call('HGET', key(id, 'shards'), number)
    return {id, number, places, attempt, get(id, 'spec'), get(id, 'version'), get(id, 'scanned_to')}
  end
end
return false
"""

_RENEW = (
    _OF_HOLDER
    + """
redis.call('ZADD', key(id, 'leased'), text(now + ARGV[4]), number)
return 1
"""
)

_EXTEND = (
    _OF_HOLDER
    + """
local num_shards = tonumber(ARGV[8])
set(id, 'version', ARGV[4], 'scanned_to', ARGV[5])
unset(id, 'reason')
redis.call('HSET', key(id, 'attempts'), number, 1)
add(id, 'found', ARGV[6])
add(id, 'failed', ARGV[7])
for i = 9, 8 + num_shards do add_shard(id, ARGV[i]) end
add_failures(id, 9 + num_shards)
return 1
"""
)

_COMPLETE = (
    _OF_HOLDER
    + """
remove_shard(id, number)
local images = 0
for i, fact in ipairs({'added', 'updated', 'skipped', 'failed'}) do
  add(id, fact, ARGV[3 + i])
  images = images + ARGV[3 + i]
end
add_failures(id, 8)
if number == '0' then set(id, 'is_scanned', 1) end
unset(id, 'reason')
if redis.call('EXISTS', key(id, 'shards')) == 0 then
  finish(id, 'done')
elseif images > 0 then
  redis.call('ZREMRANGEBYSCORE', key(id, 'settled'), '-inf', '(' .. text(now - RATE_WINDOW))
  redis.call('ZADD', key(id, 'settled'), text(now), number .. ':' .. images)
end
return 1
"""
)

_DIVIDE = (
    _OF_HOLDER
    + """
remove_shard(id, number)
for i = 4, #ARGV do add_shard(id, ARGV[i]) end
return 1
"""
)

_HAND_BACK = (
    _OF_HOLDER
    + """
release(id, number)
redis.call('HINCRBY', key(id, 'attempts'), number, -1)
if ARGV[4] then set(id, 'reason', ARGV[4]) end
return 1
"""
)

_FAIL = (
    _OF_HOLDER
    + """
for _, held in ipairs(redis.call('ZRANGE', key(id, 'leased'), 0, -1)) do release(id, held) end
finish(id, 'failed')
set(id, 'reason', ARGV[4])
return 1
"""
)

SCRIPTS = {
    name: _PRELUDE + body
    for name, body in {
        "submit": _SUBMIT,
        "job": _JOB,
        "jobs": _JOBS,
        "failures": _FAILURES,
        "pause": _PAUSE,
        "resume": _RESUME,
        "cancel": _CANCEL,
        "retry": _RETRY,
        "forget": _FORGET,
        "has_work": _HAS_WORK,
        "num_waiting": _NUM_WAITING,
        "lease": _LEASE,
        "renew": _RENEW,
        "extend": _EXTEND,
        "complete": _COMPLETE,
        "divide": _DIVIDE,
        "hand_back": _HAND_BACK,
        "fail": _FAIL,
    }.items()
}
"""By the name of the ledger's method."""
