-- What one host knows of a store that lost its state, wholly or at its end. Everything is taken as the larger
-- of what is here and what is told, so it may be told twice. said: grace_ms, terms [[rule, kind, limit, burst,
-- window, shadow, stamp]], names (all buckets named below), posted [[entity, account, name, sum]],
-- adjusted [[id, bucket, amount]], owners [[owner, epoch, seq, got [[name, n]], used [[account, name, n]],
-- returned [[name, n]], held [[name, n]]]].

-- The first host to notice begins a new epoch, so that all others are told too, and nothing is granted until
-- they had time to say what they hold. An epoch that a new host began on an emptied store is closed as well.
if not epoch or (epoch == epoch_seen and is_lost) then
  epoch = ARGV[6]
  open_at = now + said.grace_ms
  redis.call('HSET', META, 'rebuilt', epoch)
elseif epoch ~= epoch_seen and redis.call('HGET', META, 'rebuilt') ~= epoch then
  open_at = now + said.grace_ms
  redis.call('HSET', META, 'rebuilt', epoch)
end
redis.call('HSET', META, 'open_at', text(open_at))
n, head = max(n, n_seen), max(head, epoch == epoch_seen and head_seen or 0)

for _, t in ipairs(said.terms) do set_rule(t[1], {t[2], t[3], t[4], t[5], t[6], t[7]}) end
load_buckets(said.names)

local function is_known(name) return terms_of(rule_of(name)) and bucket(name) end
for _, p in ipairs(said.posted) do
  if is_known(p[3]) then book_used(p[1], p[2], p[3], p[4]) end
  book_moves('correction', p[1], {})
end
for _, a in ipairs(said.adjusted) do
  local b = is_known(a[2])
  if b and redis.call('HSETNX', REPLY, 'adjust\n' .. a[1], text(a[3])) == 1 then adjust(a[2], b, a[3]) end
end
for _, w in ipairs(said.owners) do
  local entity, owner = hear(w[1], w[2])
  if owner and owner[STATE] == ALIVE then
    load_outs(entity, said.names)
    local touched, fresh = {}, {}
    for _, got in ipairs(w[4]) do
      local b, o = is_known(got[1]), out_of(entity, got[1])
      o[O_GIVEN], touched[got[1]] = max(o[O_GIVEN], got[2]), b or nil
    end
    for _, used in ipairs(w[5]) do
      if is_known(used[2]) then
        local b, o = buckets[used[2]], out_of(entity, used[2])
        if b[KIND] == RATE then
          fresh[used[2]] = max(0, used[3] - o[O_USED])
          o[O_USED] = max(o[O_USED], used[3])
        else
          book_used(entity, used[1], used[2], used[3])
        end
        touched[used[2]] = b
      end
    end
    for _, back in ipairs(w[6]) do
      local b, o = is_known(back[1]), out_of(entity, back[1])
      o[O_RETURNED], touched[back[1]] = max(o[O_RETURNED], back[2]), b or nil
    end
    for name, b in pairs(touched) do
      local o, written = out_of(entity, name), 0
      for _, amount in pairs(o[O_WRITTEN]) do written = written + amount end
      o.dirty = true
      let_go(b, o, o[O_OUT] - max(0, o[O_GIVEN] - o[O_USED] - o[O_RETURNED] - written))
      -- Nobody knows when a rate was used: maybe long ago, and it has refilled. It is empty at worst, not in
      -- debt for all that was used since its owners began.
      if fresh[name] then b[TOTAL] = max(min(b[TOTAL], b[IS_OUT]), b[TOTAL] - fresh[name]) end
    end
    for _, held in ipairs(w[7]) do
      if is_known(held[1]) then
        local o = out_of(entity, held[1])
        set_held(buckets[held[1]], o, min(held[2], o[O_OUT]))
      end
    end
    book_moves('correction', entity, {})
    owner[SEQ] = max(owner[SEQ], w[3])
    keep(entity, owner)
  end
end
save()
return finish(max(0, open_at - now), true)
