"""A user and a provider of DICOM services made of odil (Debian's python3-odil), for what its command line does not have.

    odilpeer.py serve PORT AE FOLDER          takes C-ECHO, C-STORE and MPPS until it is killed
    odilpeer.py mpps PORT AE UID              reports a performed procedure step: created, created again, completed
    odilpeer.py move PORT AE DESTINATION STUDY
    odilpeer.py get PORT AE FOLDER STUDY      retrieves CT images

The provider keeps an object as FOLDER/UID.dcm, and a procedure step as FOLDER/UID.json.
"""

import os
import socket
import sys
import threading
import time

import odil

HOST, OURSELVES = "127.0.0.1", "ODIL"
LITTLE = [odil.registry.ExplicitVRLittleEndian, odil.registry.ImplicitVRLittleEndian]
MPPS = odil.registry.ModalityPerformedProcedureStep
Context = odil.AssociationParameters.PresentationContext
SUCCESS, DUPLICATE = 0x0000, 0x0111


def associate(port, ae, abstract, *comes):
    """An association for a service, over which objects of the kinds in comes may come back."""
    association = odil.Association()
    association.set_peer_host(HOST)
    association.set_peer_port(port)
    association.update_parameters().set_calling_ae_title(OURSELVES).set_called_ae_title(ae).set_presentation_contexts(
        [Context(1, abstract, LITTLE, Context.Role.SCU)] + [Context(2 * i + 3, c, LITTLE, Context.Role.SCP) for i, c in enumerate(comes)])
    association.associate()
    return association


def status(association, request):
    """The status of the answer to a request."""
    association.send_message(request, MPPS)
    return odil.messages.Response(association.receive_message()).get_status()


def mpps(port, ae, uid):
    association = associate(port, ae, MPPS)
    step = odil.DataSet()
    step.add("PerformedProcedureStepID", ["STEP1"])
    step.add("Modality", ["CT"])
    step.add("PerformedProcedureStepStatus", ["IN PROGRESS"])
    end = odil.DataSet()
    end.add("PerformedProcedureStepStatus", ["COMPLETED"])
    create = odil.messages.NCreateRequest(association.next_message_id(), MPPS, step)
    create.set_affected_sop_instance_uid(uid)
    again = odil.messages.NCreateRequest(association.next_message_id(), MPPS, step)
    again.set_affected_sop_instance_uid(uid)
    complete = odil.messages.NSetRequest(association.next_message_id(), MPPS, uid, end)
    print(" ".join("%04X" % status(association, r) for r in (create, again, complete)))
    association.release()


def whole(study):
    query = odil.DataSet()
    query.add("QueryRetrieveLevel", ["STUDY"])
    query.add("StudyInstanceUID", [study])
    return query


def move(port, ae, destination, study):
    abstract = odil.registry.StudyRootQueryRetrieveInformationModelMove
    association = associate(port, ae, abstract)
    scu = odil.MoveSCU(association)
    scu.set_affected_sop_class(abstract)
    scu.set_move_destination(destination)
    scu.move(whole(study))
    association.release()


def get(port, ae, folder, study):
    abstract = odil.registry.StudyRootQueryRetrieveInformationModelGet
    association = associate(port, ae, abstract, odil.registry.CTImageStorage)
    scu = odil.GetSCU(association)
    scu.set_affected_sop_class(abstract)
    scu.get(whole(study), lambda data: keep(folder, data))
    association.release()


def keep(folder, data):
    path = os.path.join(folder, data.as_string("SOPInstanceUID")[0].decode() + ".dcm")
    odil.Writer.write_file(data, path + ".new", odil.DataSet(), odil.registry.ExplicitVRLittleEndian)
    os.rename(path + ".new", path)


def answer(port, folder):
    """Serves one association at a port of its own."""
    association = odil.Association()
    association.receive_association("v4", port)
    echo, store = odil.EchoSCP(association), odil.StoreSCP(association)
    created, changed = odil.NCreateSCP(association), odil.NSetSCP(association)

    def on_store(request):
        keep(folder, request.get_data_set())
        return SUCCESS

    def note(uid, data, mode):
        with open(os.path.join(folder, uid + ".json"), mode) as f:
            f.write(odil.as_json(data) + "\n")
        return SUCCESS

    def on_create(request):
        try:
            return note(request.get_affected_sop_instance_uid(), request.get_data_set(), "x")
        except FileExistsError:
            return DUPLICATE

    echo.set_callback(lambda request: SUCCESS)
    store.set_callback(on_store)
    created.set_callback(on_create)
    changed.set_callback(lambda request: note(request.get_requested_sop_instance_uid(), request.get_data_set(), "a"))
    dispatcher = odil.SCPDispatcher(association)
    dispatcher.set_echo_scp(echo)
    dispatcher.set_store_scp(store)
    dispatcher.set_ncreate_scp(created)
    dispatcher.set_nset_scp(changed)
    while True:
        try:
            dispatcher.dispatch()
        except (odil.AssociationReleased, odil.AssociationAborted):
            return


def copy(source, to):
    while data := source.recv(1 << 16):
        to.sendall(data)
    to.shutdown(socket.SHUT_WR)


def serve(port, folder):
    """odil takes one association and then closes its port, so each gets a process with a port of its own, and this copies in between."""
    with socket.create_server((HOST, port)) as listener:
        while True:
            here, _ = listener.accept()
            with socket.create_server((HOST, 0)) as free:
                inner = free.getsockname()[1]
            if os.fork() == 0:
                listener.close()
                if os.fork() == 0:
                    here.close()
                    answer(inner, folder)
                    os._exit(0)
                while True:
                    try:
                        there = socket.create_connection((HOST, inner))
                        break
                    except ConnectionRefusedError:
                        time.sleep(0.01)
                for s in here, there:
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=copy, args=(there, here), daemon=True)
                back.start()
                copy(here, there)
                back.join()
                os._exit(0)
            here.close()


def main(command, port, ae, *rest):
    if command == "serve":
        serve(int(port), *rest)
    else:
        {"mpps": mpps, "move": move, "get": get}[command](int(port), ae, *rest)


main(*sys.argv[1:])
