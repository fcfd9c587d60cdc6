-- said: owner, epoch, rows, kind ('' in the first call: it declares the owner dead), is_counted, and of its buckets by
-- name after `after` up to `upto` ('': to the end): used [[account, name, sum]], holds [[account, name, amount]], count.
-- Answers with where to go on ('' if that was all of them), what was posted by account, kind, is_counted.
local DEAD_MS = 600000
local lost = guard()
if lost then return lost end

local entity, owner = meet(said.owner, said.epoch)
if not owner then return finish({'', {}, '', 0}) end
local upto = said.upto ~= '' and said.upto or nil
local names, seen = names_of(entity, said.after, said.count, upto), {}
local next_name = #names == said.count and names[#names] or ''
for _, name in ipairs(names) do seen[name] = true end
for _, list in ipairs({said.used, said.holds}) do
  for _, told in ipairs(list) do
    if not seen[told[2]] then names[#names + 1], seen[told[2]] = told[2], true end
  end
end
load_buckets(names)
load_outs(entity, names)

local posted, charges, holds = {}, {}, {}
local kind, is_counted = said.kind, said.is_counted
if kind == '' then
  kind, is_counted = owner[STATE] == ALIVE and 'crash' or 'correction', owner[STATE] == DEAD and 0 or 1
end
for _, told in ipairs(said.used) do
  local more = book_used(entity, told[1], told[2], told[3])
  if more > 0 then posted[told[1]] = more end
end
for _, hold in ipairs(said.holds) do
  local account, name, amount = hold[1], hold[2], hold[3]
  local b = buckets[name]
  if b and b[KIND] ~= SLOTS and amount > 0 then
    holds[name] = holds[name] or {}
    local part = b[KIND] == ROLLING and part_of(account) or '0'
    holds[name][part] = (holds[name][part] or 0) + amount
    if is_counted == 1 then posted[account] = (posted[account] or 0) + amount end
  end
end
for _, name in ipairs(names) do
  if buckets[name] then settle(name, buckets[name], entity, out_of(entity, name), holds[name] or {}) end
end
if owner[STATE] ~= DEAD then
  local known = redis.call('HGET', REPLY, entity .. '\nrows')
  local there = {}
  for _, id in ipairs(known and unpack_of(known) or {}) do there[id] = true end
  charges = add_rows(said.rows, there)
  owner[STATE], owner[SINCE] = DEAD, now
end
-- What rows charge is posted whether or not it was moved here: the rest is an entry, below nothing if need be.
book_moves(kind, entity, charges)
save()
keep(entity, owner)
redis.call('ZREM', LEASE, entity)
redis.call('ZREM', ASKING, entity)
redis.call('HDEL', OWNER, entity .. '\nsettled')
forget_untold(entity)
redis.call('ZADD', ENDED, text(owner[SINCE] + DEAD_MS), entity)
local result = {}
for account, amount in pairs(posted) do result[#result + 1] = {account, amount} end
return finish({next_name, result, kind, is_counted}, true)
