/* Graphs: captured work, replayed with the addresses that were captured, in the order of the calls. */
#include "driver.h"

#include <stdlib.h>

struct CUgraphExec_st {
    enum kind kind;
    bool alive;
    CUgraph graph; /* its own copy */
};

CUgraph new_graph(void)
{
    CUgraph graph = malloc(sizeof *graph);
    *graph = (struct CUgraph_st){.kind = GRAPH, .alive = true};
    return graph;
}

CUresult add_node(CUgraph graph, const struct operation *operation)
{
    CUgraphNode node = malloc(sizeof *node);
    *node = (struct CUgraphNode_st){.operation = *operation};
    if (graph->last == NULL)
        graph->first = node;
    else
        graph->last->next = node;
    graph->last = node;
    ++graph->size;
    return CUDA_SUCCESS;
}

static bool is_graph(CUgraph graph) { return graph != NULL && graph->kind == GRAPH && graph->alive; }
static bool is_exec(CUgraphExec exec) { return exec != NULL && exec->kind == GRAPH_EXEC && exec->alive; }

static CUresult instantiate(CUgraphExec *exec, CUgraph graph)
{
    if (!is_graph(graph))
        return CUDA_ERROR_INVALID_VALUE;
    *exec = malloc(sizeof **exec);
    **exec = (struct CUgraphExec_st){.kind = GRAPH_EXEC, .alive = true, .graph = new_graph()};
    for (CUgraphNode node = graph->first; node != NULL; node = node->next)
        add_node((*exec)->graph, &node->operation);
    ++counters.live_graph_execs;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
    ENTER(CURRENT);
    return flags > CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY ? CUDA_ERROR_NOT_SUPPORTED : instantiate(exec, graph);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters)
{
    ENTER(CURRENT);
    CUresult code = instantiate(exec, graph);
    parameters->hErrNode_out = NULL;
    parameters->result_out = code == CUDA_SUCCESS ? CUDA_GRAPH_INSTANTIATE_SUCCESS : CUDA_GRAPH_INSTANTIATE_ERROR;
    return code;
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream handle)
{
    ENTER(CURRENT);
    return is_exec(exec) && find_stream(handle) != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream handle)
{
    ENTER(CURRENT);
    struct CUstream_st *stream = find_stream(handle);
    if (!is_exec(exec) || stream == NULL)
        return is_exec(exec) ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE;
    for (CUgraphNode node = exec->graph->first; node != NULL; node = node->next) {
        CUresult code = submit(stream, &node->operation);
        if (code != CUDA_SUCCESS) { /* the launch checks nothing in CUDA: the fault shows when the graph runs */
            if (code == CUDA_ERROR_INVALID_VALUE && stream->capture == NULL)
                lose_device(code = CUDA_ERROR_ILLEGAL_ADDRESS);
            return code;
        }
    }
    ++counters.graph_launches;
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
    ENTER(INITIALISED | RELEASES);
    if (!is_exec(exec))
        return CUDA_ERROR_INVALID_VALUE;
    exec->alive = false;
    --counters.live_graph_execs;
    return lost_device();
}

CUresult cuGraphDestroy(CUgraph graph)
{
    ENTER(INITIALISED | RELEASES);
    if (!is_graph(graph))
        return CUDA_ERROR_INVALID_VALUE;
    graph->alive = false;
    --counters.live_graphs;
    return lost_device();
}

/* Without `nodes` only the count; with them at most as many as asked for, NULL behind the last one. */
CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count)
{
    ENTER(CURRENT);
    if (!is_graph(graph))
        return CUDA_ERROR_INVALID_VALUE;
    if (nodes != NULL) {
        CUgraphNode node = graph->first;
        for (size_t i = 0; i < *count; ++i, node = node == NULL ? NULL : node->next)
            nodes[i] = node;
    }
    if (nodes == NULL || *count > graph->size)
        *count = graph->size;
    return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type)
{
    static const CUgraphNodeType types[] = {
        [COPY] = CU_GRAPH_NODE_TYPE_MEMCPY,        [FILL] = CU_GRAPH_NODE_TYPE_MEMSET,
        [HOST_FUNCTION] = CU_GRAPH_NODE_TYPE_HOST, [RECORD] = CU_GRAPH_NODE_TYPE_EVENT_RECORD,
        [WAIT] = CU_GRAPH_NODE_TYPE_WAIT_EVENT,
    };
    ENTER(CURRENT);
    if (node == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    *type = types[node->operation.what];
    return CUDA_SUCCESS;
}
