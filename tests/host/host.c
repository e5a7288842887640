/*
 * A small C host of LuaJIT that is not nginx: several VMs, worker threads, lua_pcall and lua_resume. Words on
 * standard input say what it does: "interpreted", "compiled", "idle". It prints its threads' ids first.
 */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char work[32] = "idle";

/* Waits while there is nothing to do; returns the name of the Lua function to call. */
static void next_work(char *name)
{
	pthread_mutex_lock(&lock);
	while (!strcmp(work, "idle"))
		pthread_cond_wait(&changed, &lock);
	strcpy(name, work);
	pthread_mutex_unlock(&lock);
}

static lua_State *new_vm(const char *script)
{
	lua_State *L = luaL_newstate();

	if (!L)
		abort();
	luaL_openlibs(L);
	if (luaL_dofile(L, script)) {
		fprintf(stderr, "%s\n", lua_tostring(L, -1));
		abort();
	}
	return L;
}

static void say_tid(void)
{
	printf("%ld\n", (long)syscall(SYS_gettid));
	fflush(stdout);
}

/* Two VMs in turn, by lua_pcall. */
static void *caller(void *script)
{
	lua_State *vms[2] = {new_vm(script), new_vm(script)};
	char name[32];

	say_tid();
	for (int turn = 0;; turn ^= 1) {
		lua_State *L = vms[turn];

		next_work(name);
		lua_getglobal(L, name);
		if (lua_pcall(L, 0, 0, 0))
			abort();
	}
}

/* One VM, whose coroutine yields to C now and then. */
static void *resumer(void *script)
{
	lua_State *L = new_vm(script);
	char name[32];

	say_tid();
	for (;;) {
		lua_State *co = lua_newthread(L);
		int status;

		next_work(name);
		lua_getglobal(co, "yielding");
		lua_getglobal(co, name);
		do {
			status = lua_resume(co, lua_status(co) == LUA_YIELD ? 0 : 1);
		} while (status == LUA_YIELD);
		if (status)
			abort();
		lua_settop(L, 0);
	}
}

int main(int argc, char **argv)
{
	pthread_t thread;
	char line[32];

	if (argc != 2)
		return 2;
	pthread_create(&thread, NULL, caller, argv[1]);
	pthread_create(&thread, NULL, resumer, argv[1]);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		pthread_mutex_lock(&lock);
		strcpy(work, line);
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	return 0;
}
